"""What a model thinks of texts, and how fast it thinks.

Measures; prints nothing, and knows no options."""
