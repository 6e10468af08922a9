"""What was found about texts becomes one HTML page, or one SVG, which need nothing else to be shown.

Knows colours, cells and the plain values that `--json` prints. Refuses to know models, and what a terminal is."""
