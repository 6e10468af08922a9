"""From a model's name to files that an engine runs: found, downloaded and exported where they are not cached."""

import hashlib
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gpt2cli import catalog, exports, graphs, hub, hubcache, paths
from gpt2cli.catalog import BUILT_IN
from gpt2cli.errors import CorruptFile, UnknownModel, Unreachable, UsageError
from gpt2cli.export import PRECISIONS, TOKENIZER_FILES
from gpt2cli.hub import Listing
from gpt2cli.hubcache import Repository

DEFAULT = "gpt2"
SOURCES = ("auto", "checkpoint", "onnx")

_ON_HUB = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
# Best first. Shards come with an index that names them.
_WEIGHTS = (
    re.compile(r"model\.safetensors"),
    re.compile(r"model\.safetensors\.index\.json|model-\d+-of-\d+\.safetensors"),
    re.compile(r"pytorch_model\.bin"),
    re.compile(r"pytorch_model\.bin\.index\.json|pytorch_model-\d+-of-\d+\.bin"),
)


@dataclass(frozen=True)
class Listener:
    """Who hears of slow work: `progress(title, bytes done, in all)`, notes, and warnings that are never hidden."""

    progress: exports.Progress = lambda title, done, total: None
    note: Callable[[str], None] = lambda text: None
    warn: Callable[[str], None] = lambda text: None


SILENT = Listener()


@dataclass(frozen=True)
class Source:
    """Where a model comes from: a folder (a checkpoint, an export, the built-in model), or a repository of the hub."""

    name: str
    folder: Path | None = None
    repository: Repository | None = None
    revision: str | None = None  # of the built-in model
    entry: catalog.Entry | None = None

    @property
    def model(self) -> str:
        """What the cache calls it."""
        return self.repository.name if self.repository else str(self.folder and self.folder.resolve())


@dataclass(frozen=True)
class Runnable:
    """An export of ours (`graph` None), or a ready-made graph; `folder` has its configuration and tokenizer."""

    folder: Path
    graph: Path | None = None
    revision: str | None = None

    def files(self) -> list[Path]:
        """What the engine reads."""
        if self.graph is None:
            return [self.folder / "model.onnx", self.folder / "weights.safetensors"]
        return [path for path in self.graph.parent.iterdir() if path.name.startswith(self.graph.name)]


def resolve(name: str) -> Source:
    """A name of the catalogue, a folder, or owner/name[@revision] on the hub. Raises UnknownModel."""
    word, _, revision = name.partition("@")
    if word in catalog.names():
        entry = catalog.find(word)
        if entry.repository is None:
            return Source(name, entry.folder, revision=entry.revision, entry=entry)
        return Source(name, repository=Repository(entry.repository, revision or entry.revision), entry=entry)
    folder = paths.user_path(name)
    if _is(folder, stat.S_ISDIR):
        return Source(name, folder)
    if _is(folder, stat.S_ISREG):
        raise UnknownModel(f"'{name}' is a file, not a folder", f"give the folder: -m '{folder.parent}'")
    match = _ON_HUB.fullmatch(name)
    if match and ".." not in name and not name.startswith("."):
        repository = Repository(match[1], match[2] or "main")
        return Source(name, repository=repository, entry=catalog.by_repository(match[1]))
    if "/" in name or "\\" in name:
        raise UnknownModel(f"no folder '{name}'", "give the path of a checkpoint folder, or owner/name on the hub")
    catalog.find(name)  # raises, with the nearest name
    raise AssertionError(name)


def default(precision: str, listener: Listener, *, offline: bool) -> tuple[str, Listing | None]:
    """The model that answers where nobody named one: gpt2 where it is cached or can be downloaded, else the built-in
    model, of which a warning tells. Raises NetworkError where the hub answers with a refusal."""
    source = resolve(DEFAULT)
    assert source.repository is not None
    if _exported(source, precision) or complete(source, "auto"):
        return DEFAULT, None
    reason, listing = "the hub is switched off", None
    if not (offline or hubcache.offline()):
        try:
            listing = hub.look(source.repository)
        except Unreachable as error:
            reason = error.message
    if listing is None:
        listener.warn(
            f"{reason}, and {DEFAULT} is not downloaded: {BUILT_IN} answers (gpt2 pull {DEFAULT}, when online)"
        )
        return BUILT_IN, None
    size = sum(listing.files[name] or 0 for name in _wanted(listing.files, "auto", precision))
    listener.warn(f"downloading {DEFAULT} ({size / 1e6:,.0f} MB), once; -m {BUILT_IN} is built in")
    return DEFAULT, listing


def ensure(
    source: Source,
    precision: str = "auto",
    listener: Listener = SILENT,
    *,
    prefer: str = "auto",
    offline: bool = False,
    listing: Listing | None = None,
) -> Runnable:
    """What the engine runs for `source` in `precision`: what is cached, or else downloaded and exported now.

    `auto` is the ready-made export where there is one, and fp32 otherwise; `prefer` ("onnx", "checkpoint") chooses
    where a model has both. A complete cache needs no network; `listing` is what the hub said just now, if it was asked.
    Raises UnknownModel, NetworkError, CorruptFile, StorageError."""
    if precision not in ("auto", *PRECISIONS):
        raise UsageError(f"no precision '{precision}'", f"choose auto, {' or '.join(PRECISIONS)}")
    if prefer not in SOURCES:
        raise UsageError(f"no source '{prefer}'", f"choose {' or '.join(SOURCES)}")
    own = exports.own_precision(source.folder) if source.folder else None
    if source.folder and own and precision in ("auto", own):
        return Runnable(source.folder, revision=source.revision)
    if prefer != "onnx" and (found := _exported(source, precision)):
        return Runnable(found.folder, revision=found.revision)
    folder = located(source, precision, listener, prefer=prefer, offline=offline, listing=listing)
    revision = folder.name if source.repository else None
    graph = graphs.find(folder, precision)
    if graph and (prefer == "onnx" or not _has_weights(file.name for file in folder.iterdir())):
        return Runnable(folder, graph, revision)
    if prefer == "onnx":
        raise UnknownModel(f"'{source.name}' has no ready-made ONNX export", "leave out --source onnx")
    if graphs.find(folder, "auto") and not _has_weights(file.name for file in folder.iterdir()):
        raise UnknownModel(f"'{source.name}' has only graphs in other precisions than {precision}", "leave it to auto")
    precision = "fp32" if precision == "auto" else precision
    target = exports.folder_for(source.model, precision, _key(source, folder))
    with exports.lock(source.model, listener.note):
        if exports.read(target) is None:  # another process may have made it while we waited
            exports.make(
                folder,
                target,
                model=source.model,
                revision=revision,
                precision=precision,
                progress=listener.progress,
                title=source.name,
            )
    return Runnable(target, revision=revision)


def located(
    source: Source,
    precision: str = "auto",
    listener: Listener = SILENT,
    *,
    prefer: str = "auto",
    offline: bool = False,
    listing: Listing | None = None,
) -> Path:
    """The folder of the model's own files, downloaded where they are not on this machine. Raises as `ensure`."""
    folder = source.folder or complete(source, prefer)
    if folder is None:
        folder = _download(source, precision, listener, prefer=prefer, offline=offline, listing=listing)
    return folder


def refresh(source: Source, precision: str, listener: Listener, *, prefer: str = "auto") -> None:
    """Bring a model of the hub up to what its branch points at now. Raises as `ensure`."""
    if source.repository is not None:
        listing = hub.look(source.repository)
        _download(source, precision, listener, prefer=prefer, offline=False, listing=listing)


def _download(
    source: Source, precision: str, listener: Listener, *, prefer: str, offline: bool, listing: Listing | None
) -> Path:
    repository = source.repository
    assert repository is not None
    if listing is None:
        if offline or hubcache.offline():
            raise UnknownModel(
                f"'{source.name}' is not downloaded, and the hub is switched off",
                f"once with a network: gpt2 pull {source.name}; or use the built-in model: -m {BUILT_IN}",
            )
        listing = hub.look(repository)
    wanted = _wanted(listing.files, prefer, precision)
    if "config.json" not in listing.files or not wanted:
        what = "config.json" if "config.json" not in listing.files else "weights that can be read"
        raise UnknownModel(f"'{repository}' has no {what}", "choose a repository with a GPT-2 checkpoint")
    pinned = source.entry.files if source.entry and source.entry.revision == listing.commit else {}
    with exports.lock(source.model, listener.note):
        # what it is comes first: megabytes of another architecture are not downloaded
        folder = hub.fetch(listing, ["config.json"], pinned=pinned, progress=lambda done, total: None)
        _check_architecture(folder)

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
    if prefer == "onnx" or not _has_weights(names):
        return graphs.files(names, precision)
    weights = next(found for pattern in _WEIGHTS if (found := [name for name in names if pattern.fullmatch(name)]))
    tokenizer = [name for name in TOKENIZER_FILES if name in names]
    if "tokenizer.json" in names:
        tokenizer = ["tokenizer.json"]
    return ["config.json", *tokenizer, *weights]


def _has_weights(names: Iterable[str]) -> bool:
    return any(pattern.fullmatch(name) for name in names for pattern in _WEIGHTS)


def complete(source: Source, prefer: str) -> Path | None:
    """The folder of a downloaded model that lacks nothing; no HTTP."""
    if source.repository is None:
        return None
    # transformers knows the first models by their short names
    aliases = [Repository(source.entry.name, source.repository.revision)] if source.entry else []
    for repository in (source.repository, *aliases):
        folder = hubcache.snapshot(repository)
        if folder is None or not (folder / "config.json").exists():
            continue
        names = {str(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.exists()}
        has_tokenizer = "tokenizer.json" in names or {"vocab.json", "merges.txt"} <= names
        if prefer == "onnx" or not _has_weights(names):
            if graphs.find(folder, "auto"):
                return folder
        elif has_tokenizer and _has_every_shard(folder, names):
            return folder
    return None


def _has_every_shard(folder: Path, names: set[str]) -> bool:
    if names & {"model.safetensors", "pytorch_model.bin"}:
        return True
    shards = [re.fullmatch(r".*-(\d+)-of-(\d+)\.(?:safetensors|bin)", name) for name in names]
    counted = {(int(shard[1]), int(shard[2])) for shard in shards if shard}
    return any(name.endswith(".index.json") for name in names) and any(
        all((number, total) in counted for number in range(1, total + 1)) for _, total in counted
    )


def _exported(source: Source, precision: str) -> exports.Export | None:
    """The cached export, found without looking at the checkpoint where that is of the hub; no HTTP."""
    precision = "fp32" if precision == "auto" else precision
    if source.repository is None:
        return exports.read(exports.folder_for(source.model, precision, _key(source, source.folder)))
    snapshot, revision = hubcache.snapshot(source.repository), source.repository.revision
    commit = snapshot.name if snapshot else revision
    found = exports.read(exports.folder_for(source.model, precision, commit))
    if found or snapshot or re.fullmatch("[0-9a-f]{40}", revision):
        return found
    # the download was removed, and with it what the branch points at
    mine = [
        one for one in exports.cached() if (one.model, one.precision) == (source.model, precision) and not one.stale
    ]
    return max(mine, key=lambda one: one.folder.stat().st_mtime, default=None) if revision == "main" else None


def _key(source: Source, folder: Path | None) -> str:
    """Changes when the files of the checkpoint do: a commit of the hub, or their names, sizes and times."""
    assert folder is not None
    if source.repository:
        return folder.name
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".bin") or path.name in ("config.json", *TOKENIZER_FILES):
            try:
                status = path.stat()
            except OSError as error:
                raise CorruptFile(
                    f"cannot read {path}: {error.strerror}", "a link to a file that is gone? copy the checkpoint anew"
                ) from None
            digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _is(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether there is something of this kind (stat.S_ISDIR ...). No name is too long or too odd to ask."""
    try:
        return kind(path.stat().st_mode)
    except (OSError, ValueError):
        return False
