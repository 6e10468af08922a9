"""What a model's name means: a folder, or a repository of the hub; and whether its files are all on this machine."""

import hashlib
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gpt2cli import paths
from gpt2cli.errors import CorruptFile, UnknownModel
from gpt2cli.export import formats
from gpt2cli.export.names import SETTINGS
from gpt2cli.store import catalog, hubcache, own, readymade
from gpt2cli.store.hub import Listing
from gpt2cli.store.hubcache import Repository

_ON_HUB = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
# Best first. Shards come with an index that names them.
WEIGHTS = (
    re.compile(r"model\.safetensors"),
    re.compile(r"model\.safetensors\.index\.json|model-\d+-of-\d+\.safetensors"),
    re.compile(r"pytorch_model\.bin"),
    re.compile(r"pytorch_model\.bin\.index\.json|pytorch_model-\d+-of-\d+\.bin"),
)


@dataclass(frozen=True)
class Source:
    """Where a model comes from: a folder (a checkpoint, an export, the built-in model), or a repository of the hub."""

    name: str
    folder: Path | None = None
    repository: Repository | None = None
    revision: str | None = None  # of the built-in model
    entry: catalog.Entry | None = None
    listing: Listing | None = field(default=None, compare=False)  # what the hub said just now, if it was asked

    @property
    def model(self) -> str:
        """What the cache calls it."""
        if self.repository:
            return self.repository.name
        return self.entry.name if self.entry else str(self.folder and self.folder.resolve())


def resolve(name: str, note: Callable[[str], None] = lambda text: None) -> Source:
    """A name of the catalogue (which a folder does not change the meaning of: `./gpt2` is the folder), a folder, the
    name of a model that was trained here, or owner/name[@revision] on the hub. `note` hears which it is where it could
    be two. Raises UnknownModel."""
    if not name:
        raise UnknownModel("the model's name is empty", "give one, as tiny; gpt2 list shows those that are known")
    word, _, revision = name.partition("@")
    if word in catalog.names():
        entry = catalog.find(word)
        if is_a(Path(name), stat.S_ISDIR):
            note(f"{name} is the model of the catalogue; the folder of this name is ./{name}")
        if entry.repository is None:
            if revision not in ("", entry.revision):
                raise UnknownModel(
                    f"'{word}' is built in, with one revision: {entry.revision}", f"leave out @{revision}"
                )
            return Source(name, entry.folder, revision=entry.revision, entry=entry)
        return Source(name, repository=Repository(entry.repository, revision or entry.revision), entry=entry)
    folder = paths.user_path(name)
    if is_a(folder, stat.S_ISDIR):
        if not paths.is_text(path := folder.resolve()):
            raise UnknownModel(f"the path of the folder, '{path}', is not UTF-8 text", "give it another name")
        match = _ON_HUB.fullmatch(name)
        if match and hubcache.appears(other := Repository(match[1], match[2] or "main")):
            note(f"{name} is the folder; the model of this name from the hub is {other.name}@{other.revision}")
        elif own.find(name):
            note(f"{name} is the folder, not the model of this name that was trained here")
        return Source(name, folder)
    if trained := own.find(name):
        return Source(name, trained)
    if is_a(folder, stat.S_ISREG):
        formats.refuse_file(folder)
        raise UnknownModel(f"'{name}' is a file, not a folder", f"give the folder: '{folder.parent}'")
    match = _ON_HUB.fullmatch(name)
    if match and ".." not in name and not name.startswith("."):
        repository = Repository(match[1], match[2] or "main")
        return Source(name, repository=repository, entry=catalog.by_repository(match[1]))
    if "/" in name or "\\" in name:
        raise UnknownModel(f"no folder '{name}'", "give the path of a checkpoint folder, or owner/name on the hub")
    catalog.find(name)  # raises, with the nearest name
    raise AssertionError(name)


def repositories(source: Source) -> list[str]:
    """The names under which the hub's cache may hold a model: transformers knows the first models by short names."""
    if source.repository is None:
        return []
    return [source.repository.name, *([source.entry.name] if source.entry else [])]


def complete(source: Source, prefer: str, precision: str = "auto") -> Path | None:
    """The folder of a model that lacks nothing; no HTTP."""
    if source.repository is None:
        return source.folder
    folders = [hubcache.snapshot(Repository(name, source.repository.revision)) for name in repositories(source)]
    return next((folder for folder in folders if folder and whole(folder, prefer, precision)), None)


def whole(folder: Path, prefer: str = "auto", precision: str = "auto") -> bool:
    """Whether a snapshot of the hub's cache has all that is needed to run it."""
    if not (folder / "config.json").exists():
        return False
    names = {str(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.exists()}
    if prefer == "onnx" or not has_weights(names):
        try:
            return readymade.find(folder, precision) is not None
        except CorruptFile:  # data that it names are missing
            return False
    has_tokenizer = "tokenizer.json" in names or {"vocab.json", "merges.txt"} <= names
    return has_tokenizer and _has_every_shard(folder, names)


def has_weights(names: Iterable[str]) -> bool:
    return any(pattern.fullmatch(name) for name in names for pattern in WEIGHTS)


def _has_every_shard(folder: Path, names: set[str]) -> bool:
    if names & {"model.safetensors", "pytorch_model.bin"}:
        return True
    shards = [re.fullmatch(r".*-(\d+)-of-(\d+)\.(?:safetensors|bin)", name) for name in names]
    counted = {(int(shard[1]), int(shard[2])) for shard in shards if shard}
    return any(name.endswith(".index.json") for name in names) and any(
        all((number, total) in counted for number in range(1, total + 1)) for _, total in counted
    )


def key(source: Source, folder: Path | None) -> str:
    """Changes when the files of the checkpoint do: a commit of the hub, or their names, sizes and times. Where the
    checkpoint was merged from an adapter, those of the adapter."""
    if source.repository:
        assert folder is not None
        return folder.name
    folder = source.folder
    assert folder is not None
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".bin") or path.name in (*SETTINGS, formats.ADAPTER):
            try:
                status = path.stat()
            except OSError as error:
                raise CorruptFile(
                    f"cannot read {path}: {error.strerror}", "a link to a file that is gone? copy the checkpoint anew"
                ) from None
            digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def is_a(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether there is something of this kind (stat.S_ISDIR ...). No name is too long or too odd to ask."""
    try:
        return kind(path.stat().st_mode)
    except (OSError, ValueError):
        return False
