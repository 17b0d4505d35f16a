# bash completion for oss-tailer. Source it, or put it into ~/.local/share/bash-completion/completions/oss-tailer

_oss_tailer() {
  local current=${COMP_WORDS[COMP_CWORD]} options='-h --help' words=''
  COMPREPLY=()
  case ${COMP_WORDS[COMP_CWORD - 1]} in
    --group | --endpoint | --region | --profile | --metrics) return 0 ;;
    --interval | --size | --duration | --late | --wait | --poll | --roll) return 0 ;;
  esac
  if [[ ${COMP_WORDS[COMP_CWORD - 1]} == --sort ]]; then
    COMPREPLY=($(compgen -W 'trouble lag rate name' -- "$current"))
    return 0
  fi
  case ${COMP_WORDS[1]} in
    run) ;;
    check) options+=' --online' ;;
    checkpoints)
      case ${COMP_WORDS[2]} in
        list | show | reset | export) ((COMP_CWORD > 2)) && options+=' --group' ;;
      esac
      ((COMP_CWORD == 2)) && words='list show reset export import'
      ;;
    verify) options+=' --prefix --part --endpoint --region --profile --no-sign-request' ;;
    canary)
      options+=' --interval --size --duration --late --wait --poll --roll --seal --delete --metrics'
      options+=' --endpoint --region --profile'
      ;;
    top)
      options+=' --once --sort'
      words='http://127.0.0.1:9465'
      ;;
    *)
      options+=' --version'
      ((COMP_CWORD == 1)) && words='run check checkpoints verify canary top'
      ;;
  esac
  if [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$current"))
  elif [[ -n $words ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  elif [[ $current == oss:* ]]; then
    compopt -o nospace 2>/dev/null
    COMPREPLY=($(compgen -W 'oss://' -- "$current"))
  else
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi
  return 0
}

complete -F _oss_tailer oss-tailer
