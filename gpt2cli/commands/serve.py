"""gpt2 serve: the model behind HTTP, and a page to write with."""

import ipaddress
import json
import math
import os
import re
import time
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from gpt2cli.console import bars, terminal
from gpt2cli.console import options as o
from gpt2cli.console.groups import Options
from gpt2cli.errors import UsageError

EXAMPLES = """\b
Examples:
  gpt2 serve --open
  gpt2 serve -m distilgpt2 --port 9000 --parallel 8
  gpt2 serve --host 0.0.0.0 --api-key-file key.txt
  curl http://127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' -d '{"prompt": "The king"}'
"""


@dataclass(frozen=True)
class AddressOptions(Options):
    heading = "Address"

    host: Annotated[str, typer.Option(metavar="HOST", help="Where to listen; 0.0.0.0: on every address.")] = "127.0.0.1"
    port: Annotated[int, typer.Option("-p", "--port", metavar="N", min=0, max=65535, help="0: any free one.")] = 8080
    socket: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Listen on a Unix socket instead.", show_default=False),
    ] = None
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False

    def __post_init__(self) -> None:
        if self.open_page and self.socket is not None:
            raise UsageError("--open contradicts --socket", "leave out one: browsers read no Unix sockets")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can ask."""
        if self.socket is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def url(self, port: int) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{port}"


@dataclass(frozen=True)
class AccessOptions(Options):
    heading = "Who may ask"

    api_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="What clients must know, but for /health. Default: GPT2_API_KEY.", show_default=False
        ),
    ] = None
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The same from a file, a key a line.", show_default=False),
    ] = None
    insecure: Annotated[bool, typer.Option("--insecure", help="Serve other machines without a key.")] = False
    cors: Annotated[
        list[str],
        typer.Option(metavar="ORIGIN", help="Let pages of ORIGIN ask; may be repeated.", show_default=False),
    ] = field(default_factory=list)

    def __post_init__(self) -> None:
        for origin in self.cors:
            if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s*A-Z]+|null", origin):
                raise UsageError(f"--cors '{origin}' is no origin", "write it as a browser does: https://their.origin")

    def keys(self) -> tuple[str, ...]:
        """Raises UsageError."""
        # no setting of the config file, whose values can be listed
        key = (os.environ.get("GPT2_API_KEY") or None) if self.api_key is None else self.api_key
        found = [] if key is None else [key]
        if self.api_key_file is not None:
            try:
                lines = self.api_key_file.read_text(encoding="utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as problem:
                why = getattr(problem, "strerror", None) or "it is no text"
                raise UsageError(f"cannot read '{self.api_key_file}': {why}", "a text file, a key a line") from None
            found += [line.strip() for line in lines if line.strip()]
            if not found:
                raise UsageError(f"'{self.api_key_file}' holds no key", "write one into it, a key a line")
        if "" in found:
            raise UsageError("the API key is empty", "give it some characters, or leave it out")
        return tuple(found)


@dataclass(frozen=True)
class LoadOptions(Options):
    heading = "Load"

    parallel: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=512, help="Texts at a time. Default: by memory, up to 16.", show_default=False
        ),
    ] = None
    queue: Annotated[int, typer.Option(metavar="N", min=0, help="Requests that may wait; more are refused.")] = 64
    timeout: Annotated[float, typer.Option(metavar="S", min=1, help="Seconds that an answer may take.")] = 600
    alias: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="Another name for the model; may be repeated.", show_default=False),
    ] = field(default_factory=list)
    log_format: Annotated[str, typer.Option(metavar="NAME", help="Of a line a request, on stderr: text or json.")] = (
        "text"
    )

    def __post_init__(self) -> None:
        if self.log_format not in ("text", "json"):
            raise UsageError(f"no log format '{self.log_format}'", "choose text or json")
        if math.isnan(self.timeout):
            raise UsageError("--timeout is no number", "give it the seconds that an answer may take")
        if "" in self.alias:
            raise UsageError("--alias is empty", "give it a name, or leave it out")


def serve(
    address: AddressOptions, model: o.ModelOptions, access: AccessOptions, load: LoadOptions, talk: o.TalkOptions
) -> int:
    keys = access.keys()
    if not (address.is_local or keys or access.insecure):
        raise UsageError(
            f"--host {address.host} lets other machines ask, and there is no key",
            "add --api-key-file FILE, or --insecure if anybody may",
        )
    # Starlette, uvicorn and the model: 300 ms that --help and usage errors do not pay
    from gpt2cli.server import run
    from gpt2cli.server.app import Capacity, Server
    from gpt2cli.server.gate import Rules

    sockets = run.listen_locally(address.socket) if address.socket else run.listen(address.host, address.port)
    where = str(address.socket) if address.socket else address.url(sockets[0].getsockname()[1])
    rules = Rules(keys, tuple(access.cors), ("localhost", address.host.lower()))
    log = _log(load.log_format, talk)
    server = Server(rules, log, tuple(load.alias))

    def opening() -> None:
        opened = model.open(talk, text=False)  # where there is no tokenizer, prompts are ids
        rows = load.parallel or opened.engine.rows_at_once()
        server.open(opened, Capacity(rows, load.queue, load.timeout))
        what = f"{opened.name} ({opened.precision}, {opened.device}, {rows} at a time)"
        log({"note": f"{what} answers on {where}; Ctrl-C ends"})
        if address.open_page and not _open(where):
            log({"note": f"no browser is found: open {where} in yours"})

    try:
        return run.run(server, sockets, opening)
    finally:
        bars.leave()  # the model may still be on its way
        if address.socket:
            address.socket.unlink(missing_ok=True)


def _open(url: str) -> bool:
    """Whether a browser has been told to. One that runs in a terminal would take this one, and can do nothing with the
    page; but whoever names it in BROWSER wants it."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    in_terminal = type(browser) is webbrowser.GenericBrowser and not os.environ.get("BROWSER")
    return not in_terminal and browser.open(url)


def _log(kind: str, talk: o.TalkOptions) -> Any:
    """What writes a line of the access log."""

    def write(event: Mapping[str, Any]) -> None:
        if talk.quiet:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        if kind == "json":
            terminal.say(json.dumps({"time": now} | dict(event)))
        elif "note" in event:
            terminal.note(event["note"])
        else:
            terminal.tell(_line(now, event))

    return write


def _line(now: str, event: Mapping[str, Any]) -> str:
    tokens = f" {event['prompt_tokens']}+{event['completion_tokens']} tokens" if "prompt_tokens" in event else ""
    left = " client left" if event.get("cancelled") else ""
    path = terminal.printable(event["path"])
    return f"{now} {event['client']} {event['method']} {path} {event['status']} {event['seconds']:.3f}s{tokens}{left}"
