"""What is asked for of a model, whichever it is, and who hears of the work that it takes."""

from collections.abc import Callable
from dataclasses import dataclass

from gpt2cli.errors import UsageError
from gpt2cli.export.names import DEVICES, PRECISIONS

SOURCES = ("auto", "checkpoint", "onnx")
Progress = Callable[[str, int, int], None]  # (title, bytes done, bytes in all)


@dataclass(frozen=True)
class Choice:
    """How a model is to run. Checked once, here; raises UsageError."""

    precision: str = "auto"  # the ready-made graph's where there is no checkpoint, else int8 where that passes the gate
    prefer: str = "auto"  # of a model that has both: "onnx", or "checkpoint"
    device: str = "auto"  # CUDA where that works
    offline: bool = False

    def __post_init__(self) -> None:
        for what, value, values in (
            ("precision", self.precision, ("auto", *PRECISIONS)),
            ("source", self.prefer, SOURCES),
            ("device", self.device, DEVICES),
        ):
            if value not in values:
                raise UsageError(f"no {what} '{value}'", f"choose {', '.join(values[:-1])} or {values[-1]}")


AUTO = Choice()  # where nothing is asked for


@dataclass(frozen=True)
class Listener:
    """Who hears of slow work: `progress(title, bytes done, in all)`, notes, and warnings that are never hidden."""

    progress: Progress = lambda title, done, total: None
    note: Callable[[str], None] = lambda text: None
    warn: Callable[[str], None] = lambda text: None


SILENT = Listener()
