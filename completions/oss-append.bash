# bash completion for oss-append. Source it, or put it into ~/.local/share/bash-completion/completions/oss-append

_oss_append_options='-f --follow --checkpoint --skip-lost --lines --flush-interval --flush-bytes --tee --seal --create-only --expect-position --shared
  --pattern --content-type --meta --tag --storage-class --acl --encryption --progress --no-progress
  --endpoint --region --profile --no-sign-request --debug --help --version'

_oss_append() {
  local current=${COMP_WORDS[COMP_CWORD]}
  COMPREPLY=()
  case ${COMP_WORDS[COMP_CWORD - 1]} in
    --storage-class) COMPREPLY=($(compgen -W 'Standard IA Archive' -- "$current")) ;;
    --acl) COMPREPLY=($(compgen -W 'default private public-read public-read-write' -- "$current")) ;;
    --encryption) COMPREPLY=($(compgen -W 'AES256 KMS SM4' -- "$current")) ;;
    -f | --follow | --checkpoint)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      ;;
    --flush-interval | --flush-bytes | --expect-position | --content-type | --meta | --tag | --endpoint | --region | \
      --profile) ;;
    *)
      if [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "$_oss_append_options" -- "$current"))
      elif [[ $current == oss:* || ${COMP_WORDS[*]} != *oss:* ]]; then
        COMPREPLY=($(compgen -W 'oss://' -- "$current"))
        compopt -o nospace 2>/dev/null
      else
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
      fi
      ;;
  esac
  return 0
}

complete -F _oss_append oss-append
