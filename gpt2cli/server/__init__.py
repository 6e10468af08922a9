"""The model behind HTTP: OpenAI's completions, and a page to write with.

Knows the protocol, who may ask, and how many are served at a time. Refuses to know how a terminal looks, and how a
token is chosen."""
