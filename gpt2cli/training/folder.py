"""The folder of a run: a checkpoint that any tool reads, the best so far, and in `run/` all that a cut run needs.

model.safetensors  config.json  tokenizer.json ...  README.md    the best so far; not there before it is whole
run/plan.json        what was asked for; whoever resumes goes on with it
run/ids.bin ...      the data (documents.py)
run/state.pt         the last state that was saved; gone when the run has ended
run/last/            settings and tokenizer; when the run has ended, the last weights too: a checkpoint
run/metrics.jsonl    a line for each loss that was measured
adapter/             what LoRA has learnt of the best, in PEFT's format
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import save_file

from gpt2cli.errors import CorruptFile, StorageError, UsageError
from gpt2cli.export.names import SETTINGS
from gpt2cli.paths import contained, json_object
from gpt2cli.training.lora import LoRA, save_adapter
from gpt2cli.training.network import Network, tensors_of

WEIGHTS = "model.safetensors"
_PART = ".part"


class Folder:
    """The folder `path`. One run at a time is in it."""

    def __init__(self, path: Path) -> None:
        self.path, self.run = path, path / "run"

    @property
    def begun(self) -> bool:
        """Whether a run is here."""
        return (self.run / "plan.json").exists()

    @property
    def ended(self) -> bool:
        """Whether the run that was here has come to its end."""
        return self.begun and not (self.run / "state.pt").exists()

    def prepare(self) -> None:
        """Make the folder, without what a run that did not begin has left. Raises UsageError where something else is in
        it, StorageError."""
        try:
            if self.path.exists() and (not self.path.is_dir() or {path.name for path in self.path.iterdir()} - {"run"}):
                raise UsageError(
                    f"'{self.path}' is there already, and no run of gpt2 finetune", "choose another -o, or remove it"
                )
            (self.run / "last").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self.unwritable(error) from None

    def discard(self) -> None:
        """Leave nothing of a run that could not begin."""
        shutil.rmtree(self.run, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()

    @contextlib.contextmanager
    def entered(self, begin: Callable[[], None], *, resume: bool) -> Iterator[None]:
        """Hold the folder, with a run in it: with `resume` the one that is there; or the one that `begin` begins, of
        which nothing stays where it cannot. Raises UsageError where a run is there and is not to go on, StorageError,
        and what `begin` raises."""
        if self.begun:
            if not resume:
                ended = self.ended
                raise UsageError(
                    f"a run is in '{self.path}' already{', and has ended' if ended else ''}",
                    "choose another -o" if ended else "go on with it: --resume; or choose another -o",
                )
            with self.held():
                yield
            return
        self.prepare()
        with self.held():
            try:
                begin()
            except BaseException:
                self.discard()
                raise
            yield

    def settings(self, base: Path, *, tied: bool) -> None:
        """Take over the settings and the tokenizer of the model that is trained. Raises StorageError."""
        try:
            for name in SETTINGS:
                if (base / name).exists():
                    shutil.copyfile(base / name, self.run / "last" / name)
            path = self.run / "last" / "config.json"
            config = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise self.unwritable(error) from None
        if config.get("architectures") in (None, [], ["GPT2Model"]):
            config["architectures"] = ["GPT2LMHeadModel"]
        for name in ("torch_dtype", "dtype"):
            config.pop(name, None)
        if tied != (config.get("tie_word_embeddings") is not False):
            config["tie_word_embeddings"] = tied
        self._write_text(path, json.dumps(config, indent=2) + "\n")

    def held(self) -> AbstractContextManager[Any]:
        """While it is held, no other run gets in. Raises UsageError where one is in it."""
        from filelock import FileLock, Timeout

        try:
            self.run.mkdir(parents=True, exist_ok=True)
            return FileLock(self.run / "lock").acquire(timeout=0)
        except Timeout:
            raise UsageError(f"another run is at work in '{self.path}'", "wait for it, or choose another -o") from None
        except OSError as error:
            raise self.unwritable(error) from None

    def write_plan(self, plan: dict[str, Any]) -> None:
        self._write_text(self.run / "plan.json", json.dumps(plan, indent=2) + "\n")

    def plan(self) -> dict[str, Any]:
        """What the run was begun with. Raises CorruptFile."""
        try:
            found = json_object(self.run / "plan.json")
        except CorruptFile as error:
            raise CorruptFile(
                f"the plan of the run in '{self.path}' cannot be read: {error.message}", "begin anew"
            ) from None
        return found or {}

    def save_state(self, state: dict[str, Any]) -> None:
        """All or nothing. Raises StorageError, with the state before still there."""
        with self._replaced(self.run / "state.pt") as part:
            with part.open("wb") as file:
                torch.save(state, file)
            _settled(part)

    def state(self, device: str) -> dict[str, Any]:
        """The last state that was saved. Raises CorruptFile."""
        path = contained(self.run / "state.pt", self.run)
        try:
            found: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        except Exception as error:  # pickle, zip and torch each have their own
            raise CorruptFile(
                f"{path} cannot be read: {type(error).__name__}", "begin anew, without --resume"
            ) from None
        return found

    def save_best(self, network: Network, card: str, adapter: tuple[LoRA, str] | None = None) -> None:
        """The checkpoint that everybody reads: as long as it is not whole, config.json is not there. `adapter`: with
        what LoRA has learnt, and the name of its base. Raises StorageError."""
        self._save_weights(network, self.path / WEIGHTS)
        self._write_text(self.path / "README.md", card)
        if adapter:
            self._save_adapter(network, *adapter)
        if not (self.path / "config.json").exists():
            names = [name for name in SETTINGS if (self.run / "last" / name).exists()]
            for name in sorted(names, key=lambda name: name == "config.json"):
                self._copy(self.run / "last" / name, self.path / name)

    def tell(self, metrics: dict[str, Any]) -> None:
        """Another line of metrics.jsonl. Raises StorageError."""
        try:
            with (self.run / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(metrics) + "\n")
        except OSError as error:
            raise self.unwritable(error) from None

    def told(self, count: int | None = None) -> list[dict[str, Any]]:
        """The first lines of metrics.jsonl, which is cut behind them: what came after the last state is told again."""
        path = contained(self.run / "metrics.jsonl", self.run)
        if not path.exists():
            return []
        found = []
        for line in path.read_text(encoding="utf-8").splitlines()[:count]:
            try:
                found.append(json.loads(line))
            except ValueError:  # torn
                break
        if count is not None:
            self._write_text(path, "".join(json.dumps(value) + "\n" for value in found))
        return found

    def finish(self, network: Network) -> None:
        """The run has ended: the last weights stay, and what nobody needs any more goes. Raises StorageError."""
        self._save_weights(network, self.run / "last" / WEIGHTS)
        try:
            (self.run / "state.pt").unlink(missing_ok=True)
            for name in ("ids.bin", "starts.npy", "prompts.npy"):
                for folder in (self.run, self.run / "held"):
                    (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise self.unwritable(error) from None

    def _save_adapter(self, network: Network, lora: LoRA, base: str) -> None:
        target = self.path / "adapter"
        part = self.run / "adapter.part"
        try:
            part.mkdir(exist_ok=True)
            target.mkdir(exist_ok=True)
            save_adapter(network, lora, base, part)
            for path in sorted(part.iterdir(), reverse=True):  # the weights first
                path.replace(target / path.name)
        except (OSError, SafetensorError) as error:
            raise self.unwritable(error) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _save_weights(self, network: Network, path: Path) -> None:
        with self._replaced(path) as part:
            save_file(
                {name: np.ascontiguousarray(value) for name, value in tensors_of(network)}, part, {"format": "pt"}
            )
            _settled(part)
            mask = os.umask(0)
            os.umask(mask)
            part.chmod(0o666 & ~mask)  # the library lets only the owner read it

    def _write_text(self, path: Path, text: str) -> None:
        with self._replaced(path) as part:
            part.write_text(text, encoding="utf-8")

    def _copy(self, source: Path, target: Path) -> None:
        with self._replaced(target) as part:
            shutil.copyfile(source, part)

    @contextlib.contextmanager
    def _replaced(self, path: Path) -> Iterator[Path]:
        """Beside the file what takes its place when it is whole. Raises StorageError, with the file as it was."""
        part = path.with_name(path.name + _PART)
        try:
            yield part
            part.replace(path)
        except (OSError, RuntimeError, SafetensorError) as error:  # of a full disk the libraries have their own
            raise self.unwritable(error) from None
        finally:
            part.unlink(missing_ok=True)

    def unwritable(self, error: Exception) -> StorageError:
        """What to raise where a run cannot be saved: what was saved before is still there."""
        reasons = (getattr(one, "strerror", None) for one in (error, error.__context__))  # PyTorch hides the system's
        reason = next(filter(None, reasons), str(error).split("\n", 1)[0])
        more = "make room; then go on with --resume from what was saved last"
        return StorageError(
            f"cannot write to '{self.path}': {reason}", more if self.begun else "make room, or choose another -o"
        )


def _settled(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
