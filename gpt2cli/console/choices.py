"""What a shell can complete after an option: (value, what to say of it). Reads small files, and imports no library."""

import contextlib
from collections.abc import Mapping

from gpt2cli import paths
from gpt2cli.errors import UserError
from gpt2cli.export.names import DEVICES, PRECISIONS

Choices = list[tuple[str, str]]


def models(incomplete: str) -> Choices:
    from gpt2cli.store import builds, catalog, hubcache, own

    known = {name: catalog.find(name) for name in catalog.names()}
    repositories = {entry.repository for entry in known.values()}
    cached: dict[str, str] = {}
    folders = {str(paths.models() / name) for name in own.names()}
    cached |= dict.fromkeys(own.names(), "trained here")
    with contextlib.suppress(UserError):  # caches that cannot be; the next command says so
        cached |= {one.model: "exported" for one in builds.cached() if not one.stale and one.model not in folders}
        cached |= {one.name: "downloaded" for one in hubcache.downloaded()}
    others = {name: said for name, said in sorted(cached.items()) if name not in known and name not in repositories}
    return beginning(incomplete, {name: entry.description for name, entry in known.items()} | others)


def devices(incomplete: str) -> Choices:
    return beginning(incomplete, dict.fromkeys(DEVICES, "") | {"auto": "the default"})


def precisions(incomplete: str) -> Choices:
    return beginning(incomplete, {"auto": "the default"} | dict.fromkeys(PRECISIONS, ""))


def several_precisions(incomplete: str) -> Choices:
    """Of names that commas part the last."""
    before, comma, last = incomplete.rpartition(",")
    return [(before + comma + name, said) for name, said in precisions(last)]


def sources(incomplete: str) -> Choices:
    said = {"auto": "", "checkpoint": "export it", "onnx": "prefer a ready-made ONNX export"}
    return beginning(incomplete, said)


def beginning(incomplete: str, said: Mapping[str, str]) -> Choices:
    """Those that are begun."""
    return [(name, text) for name, text in said.items() if name.startswith(incomplete)]
