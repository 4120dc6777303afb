# marfetch completion for bash 3.2 and newer. Turn it on with a line in ~/.bashrc:
#   eval "$(marfetch completion bash)"

# Split the line up to the cursor into words as bash does, without expanding anything. COMP_WORDS cannot be used because it is also split
# at `:`, `=` and `@`. Sets _marfetch_words, and _marfetch_kept: the part of the last word that readline does not replace.
__marfetch_split() {
  local line=$1 breaks=$2 quote='' word='' begun='' character
  local -i at length=${#line}
  _marfetch_words=()
  _marfetch_kept=''
  for ((at = 0; at < length; at++)); do
    character=${line:at:1}
    if [[ $quote == "'" ]]; then
      if [[ $character == "'" ]]; then quote=''; else word+=$character; fi
    elif [[ $character == "\\" ]]; then
      at+=1
      word+=${line:at:1}
      begun=1
    elif [[ -n $quote ]]; then
      if [[ $character == "$quote" ]]; then quote=''; else word+=$character; fi
    elif [[ $character == "'" || $character == '"' ]]; then
      quote=$character
      begun=1
      _marfetch_kept=$word
    elif [[ $character == [[:space:]] ]]; then
      if [[ -n $word || -n $begun ]]; then _marfetch_words+=("$word"); fi
      word=''
      begun=''
      _marfetch_kept=''
    else
      word+=$character
      if [[ $breaks == *"$character"* ]]; then _marfetch_kept=$word; fi
    fi
  done
  _marfetch_words+=("$word")
}

_marfetch() {
  COMPREPLY=()
  local _marfetch_words _marfetch_kept
  __marfetch_split "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS"
  local program=$1
  if ! type -P -- "$program" >/dev/null 2>&1; then program=marfetch; fi

  local line directive='' candidates=()
  while IFS= read -r line; do
    case $line in
      :[0-9]*) directive=${line#:} ;;
      *) candidates+=("${line%%$'\t'*}") ;;
    esac
  done < <(command "$program" __complete "${_marfetch_words[@]:1}" 2>/dev/null)
  if [[ -z $directive || $directive == *[!0-9]* ]] || ((directive & 1)); then return 0; fi

  local candidate
  for candidate in ${candidates[@]+"${candidates[@]}"}; do
    COMPREPLY+=("${candidate#"$_marfetch_kept"}")
  done

  local current=${_marfetch_words[${#_marfetch_words[@]} - 1]}
  current=${current#"$_marfetch_kept"}
  if type compopt >/dev/null 2>&1; then
    if ((directive & 2)); then compopt -o nospace; fi
    if ((directive & 32)); then compopt -o nosort 2>/dev/null; fi
    if ((directive & 16)); then
      compopt -o dirnames
    elif ! ((directive & 4)); then
      compopt -o default
    fi
  elif [[ ${#COMPREPLY[@]} -eq 0 ]]; then
    local kind=''
    if ((directive & 16)); then kind=-d; elif ! ((directive & 4)); then kind=-f; fi
    if [[ -n $kind ]]; then
      while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen "$kind" -- "$current")
    fi
  fi
  return 0
}

complete -F _marfetch marfetch
