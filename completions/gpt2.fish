# fish completion for gpt2: put this file into ~/.config/fish/completions/
function __gpt2_complete
    set -lx _GPT2_COMPLETE complete_fish
    set -lx _TYPER_COMPLETE_FISH_ACTION $argv[1]
    set -lx _TYPER_COMPLETE_ARGS (commandline -cp)
    gpt2 2>/dev/null
end
complete -c gpt2 -f -n "__gpt2_complete is-args" -a "(__gpt2_complete get-args)"
