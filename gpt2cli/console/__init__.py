"""What a terminal gives and takes: options, settings, prompts, output, signals.

Knows no model at import: what it shows of one it is handed."""
