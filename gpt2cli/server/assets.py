"""The files of the page: its own, and those that it shares with the pages that drawing/ makes."""

from importlib import resources
from typing import NamedTuple

from gpt2cli.drawing.page import colours

HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


class Asset(NamedTuple):
    """A file and its media type."""

    octets: bytes
    kind: str


def find(name: str) -> Asset | None:
    """The file of this name, if it is one of the page's. A name is looked up, never joined to a path: it may be none,
    or lead elsewhere."""
    if name == "colours.css":
        return Asset(colours().encode(), "text/css")
    kind = _TYPES.get(name.rpartition(".")[2])
    folders = resources.files("gpt2cli.server") / "page", resources.files("gpt2cli.drawing")
    file = next((one for folder in folders for one in folder.iterdir() if one.name == name), None)
    return None if kind is None or file is None else Asset(file.read_bytes(), kind)
