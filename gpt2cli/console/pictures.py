"""What a verb found, also as a page (`--html`) and as a picture (`--svg`): beside stdout, which keeps its form."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from gpt2cli.console import outputs
from gpt2cli.console.groups import Options
from gpt2cli.errors import UsageError


class Drawing(Protocol):
    """A module of the room drawing/ that makes both of what `--json` prints."""

    def page(self, plain: dict[str, Any]) -> str: ...

    def picture(self, plain: dict[str, Any]) -> str: ...

    def notes(self, plain: dict[str, Any]) -> dict[str, str]:
        """What is not on them, by "html" and "svg"; nothing where all is."""


class Pictures:
    """The files that were asked for; they appear when their block ends well."""

    def __init__(self, files: dict[str, outputs.Output]) -> None:
        self._files = files

    def draw(self, drawing: Drawing, plain: dict[str, Any], note: Callable[[str], None]) -> None:
        """Write `plain` to each, and say what is left out."""
        makers = {"html": drawing.page, "svg": drawing.picture}
        for form, file in self._files.items():
            file.write(makers[form](plain))
            if said := drawing.notes(plain)[form]:
                note(f"--{form}: {said}")


@dataclass(frozen=True)
class PictureOptions(Options):
    heading = "Pictures"

    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page to FILE too; it needs no network.", show_default=False),
    ] = None
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a picture to FILE too.", show_default=False)
    ] = None

    def __post_init__(self) -> None:
        for form, path in self._paths.items():
            if outputs.is_stdout(path):
                raise UsageError(f"--{form} '{path}' is stdout, which has something else to carry", "give a file")
        if self.html is not None and self.html == self.svg:
            raise UsageError(f"--html and --svg are both '{self.html}'", "give each a file of its own")

    @property
    def wanted(self) -> bool:
        return bool(self._paths)

    @property
    def _paths(self) -> dict[str, Path]:
        return {form: path for form, path in (("html", self.html), ("svg", self.svg)) if path is not None}

    @contextlib.contextmanager
    def opened(self) -> Iterator[Pictures]:
        """Raises StorageError where a file cannot be written, before any work is done."""
        with contextlib.ExitStack() as stack:
            yield Pictures({form: stack.enter_context(outputs.Output(path)) for form, path in self._paths.items()})
