# PowerShell completion of gpt2: dot-source this file in $PROFILE (gpt2 completion powershell --install does it)
Register-ArgumentCompleter -Native -CommandName gpt2 -ScriptBlock {
    param($word, $ast, $position)
    $before = $ast.CommandElements | Where-Object { $_.Extent.EndOffset -lt $position -or -not $word }
    $program, $words = @($before | ForEach-Object { if ($_.Value) { $_.Value } else { $_.Extent.Text } })
    try {
        $Env:_GPT2_COMPLETE = '1'
        $Env:_GPT2_WORD = $word
        & $program @words 2>$null | ForEach-Object {
            $value, $help = $_ -split "`t", 2
            if (-not $help) { $help = $value }
            [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $help)
        }
    } finally {
        Remove-Item Env:_GPT2_COMPLETE, Env:_GPT2_WORD -ErrorAction Ignore
    }
}
