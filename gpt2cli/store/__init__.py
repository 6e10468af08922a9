"""A model's name -> files that an engine runs: the catalogue, the hub, its cache, our own builds, and the quality gate.

Knows no text that a model reads or writes, and no terminal: who listens is told of progress."""
