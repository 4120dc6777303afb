#compdef marfetch
# marfetch completion for zsh. Turn it on with a line in ~/.zshrc, after compinit if you use it:
#   eval "$(marfetch completion zsh)"

_marfetch() {
  local program=${(Q)words[1]}
  if ! (( $+commands[$program] )) && [[ ! -x $program ]]; then program=marfetch; fi

  local -a before lines texts shown
  before=("${(@Q)words[2,CURRENT-1]}")
  lines=("${(@f)$(command $program __complete "${before[@]}" "${(Q)IPREFIX}${(Q)PREFIX}" 2>/dev/null)}")
  local directive=${lines[-1]#:}
  if [[ $directive != <-> ]] || (( directive & 1 )); then return 1; fi
  lines[-1]=()

  if (( ! $#lines )); then
    if (( (directive & 4) && ! (directive & 16) )); then return 1; fi
    # Complete the value of `--option=value`.
    compset -P '--[^=]##='
    if (( directive & 16 )); then _files -/; else _files; fi
    return
  fi

  local line text described
  local -i width=0
  for line in $lines; do
    text=${line%%$'\t'*}
    texts+=("$text")
    if (( $#text > width )); then width=$#text; fi
  done
  for line in $lines; do
    text=${line%%$'\t'*}
    described=${${line#$text}#$'\t'}
    if [[ -n $described ]]; then shown+=("${(r:width:)text}  -- $described"); else shown+=("$text"); fi
  done

  local -a more
  if (( directive & 2 )); then more+=(-S ''); fi
  if (( directive & 32 )); then more+=(-V marfetch); else more+=(-J marfetch); fi
  if [[ $lines == *$'\t'* ]]; then more+=(-l); fi
  compadd "${more[@]}" -d shown -a texts
}

if [[ $funcstack[1] == _marfetch ]]; then
  # zsh autoloaded this file for the first completion.
  _marfetch "$@"
else
  if ! (( $+functions[compdef] )); then
    autoload -Uz compinit
    compinit
  fi
  compdef _marfetch marfetch
fi
