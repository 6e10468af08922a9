"""The shell of every page: one HTML file that asks for nothing else, by day and by night, for mouse and keyboard.

A view is a file beside this one, NAME.js, which exports a function of the same name: NAME(root, data) fills an element
with what the data say. It may import the other files here, makes elements with elements.js, colours them with the
classes of this page (`heat1`, `top10` ...), and finds its looks in views.css. Texts become text nodes, never HTML."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache
from html import escape
from importlib import resources
from typing import Any

from gpt2cli.drawing.cells import seen
from gpt2cli.drawing.colours import COLOURS

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+\.js)";\n', re.M)
_EXPORT = re.compile(r"^export (?=(async )?(function|const|class)\b)", re.M)


def page(title: str, view: str, data: Any, *, about: str = "") -> str:
    """A whole page. `view` is the name of a view, `data` what JSON can hold; `title` and the line `about` are text.

    Nothing in the data can end the script that holds them, and the page may run no script and load nothing that it does
    not bring itself: it is safe to open whatever the texts are."""
    script = f"{_bundle(f'{view}.js')}start({view});\n"
    style = _colours() + _file("shell.css") + _file("views.css")
    values = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; base-uri 'none';"
        " form-action 'none'"
    )
    return _SHELL.format(
        policy=policy,
        title=escape(seen(title)),
        about=escape(seen(about)),
        style=style,
        data=values,
        script=script,
    )


_SHELL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<div><h1>{title}</h1><p class="quiet">{about}</p></div>
<label>Theme <select id="theme"><option value="">as the system</option><option value="light">light</option>\
<option value="dark">dark</option></select></label>
</header>
<main id="view"></main>
<noscript><p>This page needs JavaScript. It loads nothing, and works without a network.</p></noscript>
<script type="application/json" id="data">{data}</script>
<script type="module">{script}</script>
</body>
</html>
"""


@cache
def _file(name: str) -> str:
    return (resources.files("gpt2cli.drawing") / name).read_text(encoding="utf-8")


def _colours() -> str:
    """Each colour as a variable, and as a class of grounds."""
    names = "".join(f"--{name}:light-dark({light},{dark});" for name, (light, dark) in COLOURS.items())
    grounds = "".join(
        f".{name}{{background:var(--{name})}}" for name in COLOURS if re.fullmatch(r"(heat|cold)\d|top\d+|beyond", name)
    )
    return f":root{{{names}}}{grounds}\n"


def _bundle(name: str) -> str:
    """The script of a view and of all that it imports, in one."""
    names = list(dict.fromkeys([*_needed("shell.js"), *_needed(name)]))
    return "".join(_EXPORT.sub("", _IMPORT.sub("", _file(one))) for one in names)


def _needed(name: str) -> Iterator[str]:
    """A file after those that it imports."""
    for other in _IMPORT.findall(_file(name)):
        yield from _needed(other)
    yield name


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
