"""A checkpoint becomes a graph, without PyTorch: its files are read, rounded where asked for, and written as ONNX.

Knows no cache, no hub and no engine: a folder in, a folder out."""
