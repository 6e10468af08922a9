# bash completion for gpt2: source this file, or put it into ~/.local/share/bash-completion/completions/gpt2
_gpt2() {
    local IFS=$'\n'
    COMPREPLY=($(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" _GPT2_COMPLETE=complete_bash "$1" 2>/dev/null))
}
complete -o default -F _gpt2 gpt2
