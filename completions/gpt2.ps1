# PowerShell completion for gpt2: dot-source this file in $PROFILE
Register-ArgumentCompleter -Native -CommandName gpt2 -ScriptBlock {
    param($word, $ast, $position)
    try {
        $Env:_GPT2_COMPLETE = 'complete_powershell'
        $Env:_TYPER_COMPLETE_ARGS = $ast.ToString()
        $Env:_TYPER_COMPLETE_WORD_TO_COMPLETE = $word
        gpt2 2>$null | ForEach-Object {
            $value, $help = $_ -split ':::', 2
            if (-not $help) { $help = $value }
            [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $help)
        }
    } finally {
        Remove-Item Env:_GPT2_COMPLETE, Env:_TYPER_COMPLETE_ARGS, Env:_TYPER_COMPLETE_WORD_TO_COMPLETE
    }
}
