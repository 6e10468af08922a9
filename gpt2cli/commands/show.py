"""gpt2 show: everything known about a model."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2cli.console import options as o
from gpt2cli.console import terminal
from gpt2cli.errors import Unreachable, UserError

if TYPE_CHECKING:
    from gpt2cli.store.builds import Export

# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 show gpt2
  gpt2 show owner/name@v1
  gpt2 show ./my-finetune --json | jq .parameters
"""


def show(name: o.Name, offline: o.Offline = False, device: o.Device = "auto", as_json: o.Json = False) -> int:
    facts = _facts(name, offline=offline, device=device)
    if as_json:
        terminal.say_json(facts)
        return 0
    for key in ("name", "description", "repository", "revision", "licence", "folder"):
        if facts[key]:
            terminal.say_out(f"{key:<12} {facts[key]}")
    if facts["repository"] and not facts["downloaded"]:
        size = f": about {terminal.size_text(facts['download_bytes'])}" if facts["download_bytes"] else ""
        terminal.say_out(f"{'downloaded':<12} no (gpt2 pull {name}{size})")
    if facts["shape"]:
        shape = facts["shape"]
        if facts["parameters"]:
            terminal.say_out(f"{'parameters':<12} {facts['parameters']:,}")
        terminal.say_out(
            f"{'shape':<12} {shape['layers']} layers, {shape['heads']} heads, width {shape['width']},"
            f" {shape['positions']:,} positions, vocabulary {shape['vocabulary']:,}"
        )
    if facts["precision"]:
        terminal.say_out(f"{'precision':<12} {facts['precision']}")
    reason = f" ({facts['why_cpu']})" if facts["why_cpu"] else ""
    terminal.say_out(f"{'device':<12} {facts['device']}{reason}")
    for number, (file, size) in enumerate(sorted(facts["files"].items())):
        shown = terminal.size_text(size) if size is not None else "?"
        terminal.say_out(f"{'' if number else 'files':<12} {file}  {shown}")
    for number, export in enumerate(facts["exports"]):
        size = terminal.size_text(export["bytes"]) if export["bytes"] else "not kept"
        terminal.say_out(f"{'' if number else 'exports':<12} {export['precision']}  {size}  {export['folder']}")
        if export["quality"]:
            passed = "passes the gate" if export["quality"]["passed"] else "does not pass the gate"
            terminal.say_out(f"{'':<12}   {passed}: {export['quality']['summary']}")
            terminal.say_out(f"{'':<12}   {_forms(export['quality']['forms'])}")
    for number, (key, value) in enumerate(facts["published"].items()):
        terminal.say_out(f"{'' if number else 'published':<12} {key.replace('_', ' ')} {value}")
    return 0


def _facts(name: str, *, offline: bool, device: str) -> dict[str, Any]:
    from gpt2cli import model
    from gpt2cli.export.names import EXPORTED
    from gpt2cli.store import adapters, builds, hub, hubcache, sources, store
    from gpt2cli.store.choice import Choice

    choice = Choice(device=device)
    source = sources.resolve(name, terminal.note)
    entry, folder = source.entry, source.folder or sources.complete(source, "auto")
    mine = [one for one in builds.cached() if one.model == source.model]
    files: dict[str, int | None] = {}
    download_bytes = entry.download if source.repository and entry and folder is None else None
    revision = source.repository.revision if source.repository else source.revision
    if folder is not None:
        files = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
        revision = folder.name if source.repository else revision
    elif source.repository and not offline and not hubcache.offline():
        try:
            listing = hub.look(source.repository)
            files, revision = dict(listing.files), listing.commit
            download_bytes = store.download_size(listing)
        except Unreachable:
            if entry is None and not mine:
                raise
    described = folder
    for base in adapters.bases(source):
        described = base.folder or sources.complete(base, "auto")
    shape, parameters = _shape(described), entry.parameters if entry else None
    if shape is None and entry is not None:
        shape = {key: getattr(entry, key) for key in ("layers", "heads", "width", "positions", "vocabulary")}
    why_cpu = model.why_not_cuda(choice)
    if why_cpu is None and files and not sources.has_weights(files) and EXPORTED not in files:
        why_cpu = model.READY_MADE
    return {
        "name": name,
        "description": entry.description if entry else "",
        "repository": source.repository.name if source.repository else None,
        "revision": revision,
        "licence": entry.licence if entry else None,
        "folder": str(folder) if folder else None,
        "downloaded": bool(source.repository and folder),
        "download_bytes": download_bytes,
        "parameters": parameters if parameters or described is None else _parameters(described),
        "shape": shape,
        "precision": builds.own_precision(folder) if folder else None,  # of a checkpoint: the exports'
        "device": "cpu" if why_cpu else "cuda",
        "why_cpu": why_cpu,
        "files": files,
        "exports": [_export(one) for one in mine],
        "published": dict(entry.published) if entry else {},
    }


def _export(one: "Export") -> dict[str, Any]:
    quality = one.quality and {
        **asdict(one.quality),
        "perplexity": one.quality.perplexity,
        "perplexity_fp32": one.quality.perplexity_fp32,
        "passed": one.quality.passed,
        "summary": str(one.quality),
    }
    return {
        "precision": one.precision,
        "revision": one.revision,
        "bytes": one.nbytes,
        "folder": str(one.folder),
        "stale": one.stale,
        "quality": quality,
    }


def _forms(forms: list[dict[str, int]]) -> str:
    """In words: how the matrices are rounded."""
    words = []
    for form in forms:
        activations = "" if form["activation_bits"] == 8 else f" with {form['activation_bits']}-bit activations"
        words.append(f"{form['matrices']} to {form['weight_bits']} bits{activations}")
    return f"matrices rounded: {', '.join(words)}"


def _shape(folder: Path | None) -> dict[str, int] | None:
    if folder is None:
        return None
    from gpt2cli.export.checkpoint import read_config

    config = read_config(folder)
    return {
        "layers": config.n_layer,
        "heads": config.n_head,
        "width": config.n_embd,
        "positions": config.n_positions,
        "vocabulary": config.vocab_size,
    }


def _parameters(folder: Path) -> int:
    from gpt2cli.export.checkpoint import Checkpoint, read_config

    try:
        return Checkpoint(folder).config.parameters
    except UserError:  # of broken weights, or none, all that there is to show is shown
        return read_config(folder).parameters
