# fish completion of gpt2: put this file into ~/.config/fish/completions/ (gpt2 completion fish --install does it)
function __gpt2_complete
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    set -l program (string replace -r '^~' $HOME -- $words[1])
    set -l found (_GPT2_COMPLETE=1 _GPT2_WORD="$word" $program $words[2..] 2>/dev/null)
    if set -q found[1]
        printf '%s\n' $found
    else
        __fish_complete_path "$word"
    end
end
complete -c gpt2 -f -k -a "(__gpt2_complete)"
