# bash completion for oss-tail. Source it, or put it into ~/.local/share/bash-completion/completions/oss-tail

_oss_tail_options='-c --bytes= -f --follow --follow= -F -n --lines= --max-unchanged-stats= --pid= -q --quiet --silent
  --retry -s --sleep-interval= -v --verbose -z --zero-terminated --help --version
  --from= --once --exit-idle= -o --output= --fsync= --rotate-size= --keep-generations --exec= --exec-keys --json --show-nonprinting --checkpoint= --group= --integrity= --spool-bytes= --poll= --progress --no-progress --metrics= --no-glob
  --endpoint= --region= --profile= --no-sign-request --debug'

# The sections of ossutil's configuration file.
_oss_tail_profiles() {
  sed -n -E 's/^[[:space:]]*\[[[:space:]]*(profile[[:space:]]+)?([^][]*[^][[:space:]])[[:space:]]*\].*/\2/p' \
    "${OSSUTIL_CONFIG_FILE:-$HOME/.ossutilconfig}" 2>/dev/null
}

# What the value of option $1 may be, when it begins with $2.
_oss_tail_value() {
  case $1 in
    --follow) COMPREPLY=($(compgen -W 'descriptor name' -- "$2")) ;;
    --from) COMPREPLY=($(compgen -W 'start end' -- "$2")) ;;
    --integrity) COMPREPLY=($(compgen -W 'chain full strict off' -- "$2")) ;;
    --fsync) COMPREPLY=($(compgen -W 'never close batch' -- "$2")) ;;
    --poll) COMPREPLY=($(compgen -W 'head get' -- "$2")) ;;
    --pid) COMPREPLY=($(compgen -W "$(ps -A -o pid= 2>/dev/null)" -- "$2")) ;;
    --profile) COMPREPLY=($(compgen -W "$(_oss_tail_profiles)" -- "$2")) ;;
    -o | --output | --checkpoint)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$2")
      ;;
    --exec) COMPREPLY=($(compgen -c -- "$2")) ;;
    -c | --bytes | -n | --lines | -s | --sleep-interval | --max-unchanged-stats | --exit-idle | --metrics | \
      --group | --endpoint | --region) ;;
    *) return 1 ;;
  esac
}

_oss_tail() {
  local current=${COMP_WORDS[COMP_CWORD]} word
  COMPREPLY=()
  # readline makes words of their own of each "=" and ":".
  if [[ $current == = && COMP_CWORD -ge 1 ]]; then
    _oss_tail_value "${COMP_WORDS[COMP_CWORD - 1]}" ''
    return 0
  elif ((COMP_CWORD >= 3)) && [[ ${COMP_WORDS[COMP_CWORD - 1]} == = ]]; then
    _oss_tail_value "${COMP_WORDS[COMP_CWORD - 2]}" "$current"
    return 0
  elif [[ ${COMP_WORDS[COMP_CWORD - 1]} != --follow ]]; then # it takes a value after "=" alone
    _oss_tail_value "${COMP_WORDS[COMP_CWORD - 1]}" "$current" && return 0
  fi
  for word in "${COMP_WORDS[@]:1:COMP_CWORD - 1}"; do
    [[ $word == -- ]] && current=${current/#-/ }
  done
  if [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$_oss_tail_options" -- "$current"))
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
  else
    COMPREPLY=($(compgen -W 'oss:// https://' -- "$current"))
    compopt -o nospace 2>/dev/null
  fi
  return 0
}

complete -F _oss_tail oss-tail
