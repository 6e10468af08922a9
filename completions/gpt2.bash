# bash completion of gpt2: source this file (gpt2 completion bash --install does it)
_gpt2() {
    # bash cuts words at = : and @; the pieces that no blank parts are one word
    local rest=${COMP_LINE:0:COMP_POINT} words=() last=-1 i piece value prefix
    for ((i = 0; i <= COMP_CWORD; i++)); do
        piece=${COMP_WORDS[i]}
        if [[ i -eq 0 || $rest == [[:space:]]* ]]; then
            rest=${rest#"${rest%%[![:space:]]*}"}
            ((++last))
            words[last]=
        fi
        [[ i -eq COMP_CWORD ]] && piece=$rest  # as far as the cursor
        words[last]+=$piece
        rest=${rest#"$piece"}
    done
    words[last]=${words[last]#[\"\']}  # an open quote
    prefix=${words[last]%"${words[last]##*[=:@]}"}
    COMPREPLY=()
    while IFS=$'\t' read -r value _; do
        value=$(printf %q "${value#"$prefix"}")
        COMPREPLY[${#COMPREPLY[@]}]=$value
    done < <(_GPT2_COMPLETE=1 _GPT2_WORD=${words[last]} "${1/#\~/$HOME}" "${words[@]:1:last-1}" 2>/dev/null)
}
complete -o default -F _gpt2 gpt2
