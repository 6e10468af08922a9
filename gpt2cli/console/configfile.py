"""The config file: a setting a line, `key = value`, in TOML. Knows lines, not what the settings mean.

A change touches the line of its setting and no other, so that comments and order survive; a file that is not TOML is
reported with its line and never written to."""

import json
import os
import re
import shutil
from typing import NoReturn

from gpt2cli import paths
from gpt2cli.errors import CorruptFile, Homeless, StorageError

_EDIT = "gpt2 config edit opens the file"
_SETTING = re.compile(
    r"""^(?P<before>[ \t]*(?P<key>[\w-]+)[ \t]*=[ \t]*)"""
    r"""(?P<value>"(?:[^"\\\r\n]|\\.)*"|'[^'\r\n]*'|[^#\r\n]*?)"""
    r"""(?P<after>[ \t]*(?:\#[^\r\n]*)?)(?P<end>\r?\n|\Z)""",
    re.MULTILINE,
)


def read() -> dict[str, object]:
    """The settings in the file, in its order; none where there is no file. Raises CorruptFile and StorageError."""
    return _parse(_text())


def broken(key: str, reason: str, hint: str) -> NoReturn:
    """Raise CorruptFile for a setting of the file that cannot be: with its line."""
    join = " " if hint.endswith("?") else "; " if hint else ""
    raise CorruptFile(f"{place(key)}: {reason}", f"{hint.rstrip('.')}{join}{_EDIT}")


def place(key: str) -> str:
    """FILE:LINE of a setting."""
    text = _text()
    found = re.search(rf"""^[ \t]*\[*[ \t]*["']?{re.escape(key)}\b""", text, re.MULTILINE)
    return f"{paths.config()}:{text.count(chr(10), 0, found.start()) + 1}" if found else str(paths.config())


def change(key: str, value: str | float | None) -> None:
    """Give a setting a value, or (None) take it out. Raises CorruptFile and StorageError, and the file is as it was."""
    text = _text()
    settings = _parse(text)
    if value is None and key not in settings:
        return
    found = next((match for match in _SETTING.finditer(text) if match["key"] == key), None)
    if value is None:
        settings.pop(key)
        changed = text[: found.start()] + text[found.end() :] if found else text
    else:
        settings[key] = value
        literal = json.dumps(value, ensure_ascii=False)  # JSON's strings and numbers are TOML's too
        if found:
            changed = text[: found.start("value")] + literal + text[found.end("value") :]
        else:
            newline = "\r\n" if "\r\n" in text else "\n"
            begun = text if not text or text.endswith("\n") else text + newline
            changed = f"{begun}{key} = {literal}{newline}"
    try:
        understood = _parse(changed) == settings
    except (CorruptFile, RecursionError):  # of tables within tables, which are compared
        understood = False
    if not understood:  # a spelling that the pattern does not know, as a quoted key
        broken(key, f"'{key}' is written in a way that only you can change", "")
    write(changed)


def write(text: str) -> None:
    """Replace the file, whole or not at all; a link stays a link. Raises StorageError."""
    try:
        target = paths.config().resolve()
        if target.exists() and not (target.is_file() and os.access(target, os.W_OK)):
            raise PermissionError(0, "not a file that may be written")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            part.write_text(text, encoding="utf-8", newline="")
            if target.exists():
                shutil.copymode(target, part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"cannot write {paths.config()}: {error.strerror or error}", "name another file: GPT2_CONFIG=FILE"
        ) from None


def _text() -> str:
    try:
        path = paths.config()
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, Homeless):
        return ""
    except OSError as error:
        if not os.environ.get("GPT2_CONFIG") and not os.access(path, os.F_OK):  # in a home that is not ours
            return ""
        raise StorageError(
            f"cannot read {path}: {error.strerror or error}", "name another file: GPT2_CONFIG=FILE"
        ) from None
    try:
        return data.decode("utf-8-sig")  # Windows' editors begin with a byte order mark
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CorruptFile(f"{path}:{line}: not UTF-8", _EDIT) from None


def _parse(text: str) -> dict[str, object]:
    import tomllib  # 4 ms that --help does not pay

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason, _, where = str(error).rpartition(" (at ")
        line = re.match(r"line (\d+)", where)
        lines = text.rstrip().split("\n")
        number = int(line[1]) if line else len(lines)
        raise CorruptFile(f"{paths.config()}:{number}: {reason}: {lines[number - 1].strip()[:80]}", _EDIT) from None
    except (ValueError, RecursionError):  # a number of thousands of digits, thousands of brackets
        raise CorruptFile(f"{paths.config()} holds a value that is no setting's", _EDIT) from None
