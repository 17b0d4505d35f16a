# bash completion for oss-local. Source it, or put it into ~/.local/share/bash-completion/completions/oss-local

_oss_local_options='--root --fsync --bucket --public --port --host --allow-remote --access-key --keys --allow --region --cname
  --domain --faults --seed -v --verbose -h --help --version --'

_oss_local() {
  local current=${COMP_WORDS[COMP_CWORD]} at
  COMPREPLY=()
  # What stands behind -- is a command line of its own.
  for ((at = 1; at < COMP_CWORD; at++)); do
    [[ ${COMP_WORDS[at]} == -- ]] || continue
    if ((at + 1 == COMP_CWORD)); then
      COMPREPLY=($(compgen -c -- "$current"))
    else
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
    fi
    return 0
  done
  case ${COMP_WORDS[COMP_CWORD - 1]} in
    --root)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -d -- "$current")
      ;;
    --keys | --faults)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      ;;
    --host) COMPREPLY=($(compgen -W '127.0.0.1 localhost' -- "$current")) ;;
    --bucket | --port | --access-key | --allow | --region | --cname | --domain | --seed) ;;
    *) COMPREPLY=($(compgen -W "$_oss_local_options" -- "$current")) ;;
  esac
  return 0
}

complete -F _oss_local oss-local
