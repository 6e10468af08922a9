"""load(name) -> Model: the only place that knows all the pieces."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gpt2cli import store, tokenizer
from gpt2cli.engine import Engine
from gpt2cli.tokenizer import IdsAsText, Tokenizer

DEFAULT = "tiny"


@dataclass(frozen=True)
class Model:
    """A tokenizer and an engine that belong together, and where they came from."""

    name: str
    revision: str | None  # None for a local folder
    folder: Path
    precision: str
    device: str
    tokenizer: Tokenizer
    engine: Engine

    @property
    def end(self) -> int | None:
        """The end-of-text token: config.json's, else the one named <|endoftext|>."""
        configured = self.engine.facts.end
        end = self.tokenizer.end if configured is None else configured
        # some tokenizers have more ids than their model
        return end if end is not None and end < self.engine.vocabulary else None


def load(
    name: str = DEFAULT,
    *,
    precision: str = "auto",
    threads: int = 0,
    text: bool = True,
    progress: store.Progress | None = None,
) -> Model:
    """Open a model by catalogue name or folder, exporting it first where that has not been done.

    `threads` 0 uses every core. With `text` false a model without a tokenizer is opened too: its ids are its text.
    `progress(done, total)` is called with bytes while an export is written. Raises UserError."""
    source = store.resolve(name)
    folder = store.ensure(source, precision, progress)
    with ThreadPoolExecutor(1) as pool:  # both load in native code, side by side
        text_side = pool.submit(_tokenizer, folder, text)
        engine = Engine(folder, threads=threads)
        return Model(
            name=name,
            revision=source.revision,
            folder=folder,
            precision=engine.facts.precision,
            device="cpu",
            tokenizer=text_side.result(),
            engine=engine,
        )


def _tokenizer(folder: Path, text: bool) -> Tokenizer:
    return Tokenizer(folder) if text or tokenizer.present(folder) else IdsAsText()
