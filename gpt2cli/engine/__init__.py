"""Ids in, logits out: ONNX Runtime's sessions, the KV cache, and the scheduler that lets many texts share one engine.

Knows no text, no sampling, and nothing of where a graph came from."""
