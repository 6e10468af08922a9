"""From a model's name to files that an engine runs: found, downloaded and exported where they are not cached."""

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from gpt2cli.errors import StorageError, UnknownModel, Unreachable, UserError
from gpt2cli.export import formats
from gpt2cli.export.export import notes
from gpt2cli.export.names import EXPORTED, SETTINGS
from gpt2cli.store import adapters, builds, hub, hubcache, locks, readymade, sources
from gpt2cli.store.catalog import BUILT_IN
from gpt2cli.store.choice import AUTO, SILENT, Choice, Listener
from gpt2cli.store.hub import Listing
from gpt2cli.store.hubcache import Repository
from gpt2cli.store.sources import Source
from gpt2cli.tokenizer import FILES

DEFAULT = "gpt2"


class OnlyReadyMade(UnknownModel):
    """There is no checkpoint to export, and the ready-made graphs have other precisions."""


@dataclass(frozen=True)
class Runnable:
    """An export of ours (`graph` None), or a ready-made graph; `folder` has its configuration and tokenizer."""

    folder: Path
    graph: Path | None = None
    revision: str | None = None

    @property
    def place(self) -> Path:
        """The folder of the graph."""
        return self.folder if self.graph is None else self.graph.parent

    @property
    def tokenizer(self) -> Path:
        """The folder of the tokenizer: the graph's, where the other has none."""
        from gpt2cli.tokenizer.files import present  # with the library: 10 ms that nobody else pays

        return self.folder if present(self.folder) else self.place

    def files(self) -> list[Path]:
        """What the engine reads."""
        if self.graph is None:
            return [self.folder / "model.onnx", self.folder / EXPORTED]
        return [path for path in self.place.iterdir() if path.name.startswith(self.graph.name)]

    def everything(self) -> list[Path]:
        """What decides about a text: what the engine reads, and the tokenizer's files."""
        return [*self.files(), *(path for name in FILES if (path := self.tokenizer / name).exists())]


def find(name: str | None, choice: Choice, listener: Listener) -> Source:
    """What the name means; without one the model that answers then: gpt2 where it is cached or can be downloaded, else
    the built-in model, of which a warning tells. Raises UnknownModel, and NetworkError where the hub refuses, or a
    setting is wrong."""
    if name is not None:
        return sources.resolve(name, listener.note)
    source = sources.resolve(DEFAULT)
    assert source.repository is not None
    if _exported(source, choice.precision) or sources.complete(source, "auto"):
        return source
    reason, way, listing = "the hub is switched off", f"gpt2 pull {DEFAULT}, when online", None
    if not (choice.offline or hubcache.offline()):
        try:
            hubcache.check_writable()
            listing = hub.look(source.repository)
        except Unreachable as error:
            reason = error.message
        except StorageError as error:
            reason, way = error.message, error.hint
    if listing is None:
        listener.warn(f"{reason}, and {DEFAULT} is not downloaded: {BUILT_IN} answers ({way})")
        return sources.resolve(BUILT_IN)
    size = download_size(listing, choice.precision)
    listener.warn(f"downloading {DEFAULT} ({size / 1e6:,.0f} MB), once; the model {BUILT_IN} is built in")
    return replace(source, listing=listing)


def download_size(listing: Listing, precision: str = "auto") -> int:
    """The bytes of the files that are needed."""
    return sum(listing.files[name] or 0 for name in _wanted(listing.files, "auto", precision))


def ensure(source: Source, choice: Choice = AUTO, listener: Listener = SILENT) -> Runnable:
    """What the engine runs for `source`: what is cached, or else downloaded and exported now. On which device it will
    run is not asked here (see model.prepare).

    The precision `auto` is the ready-made export's where there is no checkpoint, else int8 where that passes the gate
    (quality.py), else fp32. A complete cache needs no network. Raises UnknownModel, NetworkError, CorruptFile,
    StorageError."""
    precision, prefer = choice.precision, choice.prefer
    own = builds.own_precision(source.folder) if source.folder else None
    if source.folder and own and precision in ("auto", own):
        return Runnable(source.folder, revision=source.revision)
    if prefer != "onnx" and (found := _exported(source, precision)):
        return Runnable(found.folder, revision=found.revision)
    folder = located(source, choice, listener)
    revision = _revision(source, folder)
    if prefer == "onnx" or not sources.has_weights(file.name for file in folder.iterdir()):
        if graph := readymade.find(folder, precision):
            return Runnable(folder, graph, revision)
        if readymade.find(folder, "auto"):
            raise _other_precisions(source, precision)
        if prefer == "onnx":
            raise _no_graph(source)
    try:
        if precision == "auto":
            made = _make(source, folder, "int8", listener, keep=False)
            if not _passed(made):
                made = _make(source, folder, "fp32", listener, told=True)
        else:
            made = _make(source, folder, precision, listener)
    finally:
        adapters.discard(folder)
    return Runnable(made.folder, revision=revision)


def _other_precisions(source: Source, precision: str) -> OnlyReadyMade:
    return OnlyReadyMade(f"'{source.name}' has only graphs in other precisions than {precision}", "leave it to auto")


def _no_graph(source: Source) -> UnknownModel:
    return UnknownModel(f"'{source.name}' has no ready-made ONNX export", "leave out `source` onnx")


def _revision(source: Source, folder: Path) -> str | None:
    return folder.name if source.repository else None


def _make(
    source: Source, folder: Path, precision: str, listener: Listener, *, told: bool = False, keep: bool = True
) -> builds.Export:
    """`told`: what there is to note of the checkpoint has been. `keep` is builds.make's."""
    target = builds.folder_for(source.model, precision, sources.key(source, folder))
    with locks.held(source.model, listener.note):
        found = builds.read(target)  # another process may have made it while we waited
        if found is None or found.lacks(folder) or (keep and not found.files):
            for text in [] if told else notes(folder):
                listener.note(f"{source.name}: {text}")
            found = builds.make(
                folder,
                target,
                model=source.model,
                revision=_revision(source, folder),
                branch=source.repository.revision if source.repository else None,
                precision=precision,
                progress=builds.exporting(source.name, precision, listener.progress),
                keep=keep,
            )
            if not _passed(found):
                listener.note(f"{source.name}: {precision} does not pass the quality gate: {found.quality}")
    return found


def passed(runnable: Runnable) -> bool | None:
    """Whether the gate let it pass; None where there is no record of that."""
    found = builds.read(runnable.folder)
    return _passed(found) if found else None


def _passed(export: builds.Export) -> bool:
    return export.quality is None or export.quality.passed


def located(source: Source, choice: Choice, listener: Listener) -> Path:
    """The folder of the model's own files, downloaded where they are not on this machine; an adapter's are merged with
    its base's. Raises as `ensure`."""
    *above, base = source, *adapters.bases(source)
    if above:
        choice = Choice(prefer="checkpoint", offline=choice.offline)
    found = base.folder or sources.complete(base, choice.prefer, choice.precision) or _download(base, choice, listener)
    for one in reversed(above):
        for text in notes(found):
            listener.note(f"{base.name}: {text}")
        try:
            whole = adapters.merged(one, found, listener.note)
        finally:
            adapters.discard(found)  # where that was merged too
        found, base = whole, one
    return found


def refresh(source: Source, choice: Choice, listener: Listener) -> None:
    """Bring a model of the hub up to what its branch points at now. Raises as `ensure`."""
    if source.repository is not None:
        _download(source, choice, listener, mend=True)


def _download(source: Source, choice: Choice, listener: Listener, *, mend: bool = False) -> Path:
    """`mend`: files that are there are read again, and fetched anew where they are damaged."""
    repository, listing = source.repository, source.listing
    assert repository is not None
    if listing is None:
        if choice.offline or hubcache.offline():
            raise UnknownModel(
                f"'{source.name}' is not downloaded, and the hub is switched off",
                f"once with a network: gpt2 pull {source.name}; or use the built-in model, {BUILT_IN}",
            )
        hubcache.check_writable()
        listing = hub.look(repository)
    wanted = _wanted(listing.files, choice.prefer, choice.precision)
    if "config.json" not in listing.files or not wanted:
        if "config.json" in listing.files and readymade.choose(listing.files, "auto"):
            raise _other_precisions(source, choice.precision)
        if "config.json" in listing.files and choice.prefer == "onnx":
            raise _no_graph(source)
        formats.refuse_named(str(repository), listing.files)
        what = "config.json" if "config.json" not in listing.files else "weights that can be read"
        raise UnknownModel(f"'{repository}' has no {what}", "choose a repository with a GPT-2 checkpoint")
    pinned = source.entry.files if source.entry and source.entry.revision == listing.commit else {}
    with locks.held(source.model, listener.note, hubcache.lock_path(repository.name)):
        folder = hubcache.cache_folder(repository.name) / "snapshots" / listing.commit
        known = folder.is_dir()
        if known and mend:
            hub.drop_damaged(folder)
        # what it is comes first: megabytes of another architecture are not downloaded
        hub.fetch(listing, ["config.json"], pinned=pinned, progress=lambda done, total: None)
        try:
            _check_architecture(folder)
        except UserError as error:
            if not known:
                with contextlib.suppress(StorageError):  # that it stays is no reason to hide what it is
                    hubcache.remove([Repository(repository.name, listing.commit)])
            raise type(error)(error.message.replace(str(folder), source.name), error.hint) from None

        def told(done: int, total: int) -> None:
            listener.progress(f"downloading {source.name}", done, total)

        folder = hub.fetch(listing, wanted, pinned=pinned, progress=told)
        hub.settle(listing)
    return folder


def _check_architecture(folder: Path) -> None:
    from gpt2cli.export.checkpoint import read_config

    read_config(folder)


def _wanted(names: Iterable[str], prefer: str, precision: str) -> list[str]:
    """Of a repository's files those that are needed: configuration, one set of weights, tokenizer."""
    names = list(names)
    if prefer == "onnx" or not sources.has_weights(names):
        return readymade.files(names, precision)
    weights = next(
        found for pattern in sources.WEIGHTS if (found := [name for name in names if pattern.fullmatch(name)])
    )
    settings = [name for name in SETTINGS if name in names]
    if "tokenizer.json" in names:  # which says the same as these, in a third of the time
        settings = [name for name in settings if name not in ("vocab.json", "merges.txt")]
    return [*settings, *weights]


def _exported(source: Source, precision: str) -> builds.Export | None:
    """The cached export, found without looking at the checkpoint where that is of the hub; no HTTP."""
    if precision == "auto":
        int8 = _recorded(source, "int8")
        if int8 and _passed(int8):
            return int8
        # without int8 it is not known whether that would pass: only a checkpoint that is gone makes fp32 the answer
        return _exported(source, "fp32") if int8 or not sources.complete(source, "checkpoint") else None
    found = _recorded(source, precision)
    return found if found and found.files else None


def _recorded(source: Source, precision: str) -> builds.Export | None:
    """The same, or what is known of an export that was not kept."""
    if source.repository is None:
        return builds.find(source.model, precision, sources.key(source, source.folder))
    snapshot, revision = hubcache.snapshot(source.repository), source.repository.revision
    commit = snapshot.name if snapshot else revision
    found = builds.find(source.model, precision, commit)
    if found and snapshot and found.lacks(snapshot) and sources.whole(snapshot, "checkpoint"):
        return None
    if found or snapshot or re.fullmatch("[0-9a-f]{40}", revision):
        return found
    # the download was removed, and with it what the branch points at
    mine = [
        one
        for one in builds.cached()
        if (one.model, one.precision, one.branch) == (source.model, precision, revision) and not one.stale
    ]
    return max(mine, key=lambda one: one.folder.stat().st_mtime, default=None)
