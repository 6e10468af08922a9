"""gpt2 completion: the scripts that let a shell complete our words, and what they ask for."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gpt2cli import paths
from gpt2cli.console import terminal
from gpt2cli.errors import StorageError, UsageError

# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 completion --install
  gpt2 completion zsh > ~/.zfunc/_gpt2
  source <(gpt2 completion bash)
"""
FILES = {"bash": "gpt2.bash", "zsh": "_gpt2", "fish": "gpt2.fish", "powershell": "gpt2.ps1"}
_NAMES = {"pwsh": "powershell"}


def _shells(incomplete: str) -> list[str]:
    return [name for name in FILES if name.startswith(incomplete)]


def completion(
    shell: Annotated[
        str | None,
        typer.Argument(
            metavar="[SHELL]",
            help="bash, zsh, fish or powershell. Default: the one this runs in.",
            autocompletion=_shells,
            show_default=False,
        ),
    ] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Put it where the shell looks, and say what was done.")
    ] = False,
) -> int:
    name = shell or _running()
    name = _NAMES.get(name, name)
    if name not in FILES:
        raise UsageError(f"no completion for '{name}'", f"there is one for {', '.join(FILES)}")
    script = (paths.data("completions") / FILES[name]).read_text(encoding="utf-8")
    if not install:
        terminal.say_out(script.rstrip("\n"))
        return 0
    try:
        done = _install(name, script)
    except OSError as error:
        raise StorageError(
            f"cannot write {error.filename}: {error.strerror}", f"put it where you like: gpt2 completion {name} > FILE"
        ) from None
    for line in done or ["it is installed already: nothing was changed"]:
        terminal.say_out(line)
    return 0


def answer(command: Any, words: Sequence[str], word: str) -> int:
    """What could stand for `word` after `words`: a line each of value, tab and help. The scripts ask for it."""
    # private names of Typer, which is pinned; its own protocol imports Rich, loses colons, and splits words anew
    from typer._click.shell_completion import _resolve_context, _resolve_incomplete

    before = list(words)
    context = _resolve_context(command, {}, "gpt2", before)
    asked, rest = _resolve_incomplete(context, before, word)
    prefix = word[: len(word) - len(rest)]  # --model= of --model=ti
    for item in asked.shell_complete(context, rest):
        terminal.say_out(f"{prefix}{item.value}\t{' '.join((item.help or '').split())}")
    return 0


def _running() -> str:
    """The shell that runs us, or else the one that $SHELL names. Raises UsageError."""
    import shellingham

    try:
        name = str(shellingham.detect_shell()[0])
    except shellingham.ShellDetectionFailure:
        name = ""
    if _NAMES.get(name, name) not in FILES:
        name = Path(os.environ.get("SHELL", "")).name
    if _NAMES.get(name, name) not in FILES:
        raise UsageError("cannot tell which shell this is", f"name it: gpt2 completion {'|'.join(FILES)}")
    return name


def _install(shell: str, script: str) -> list[str]:
    """Put the script where the shell finds it; returns what was done. Raises OSError, UsageError."""
    home = paths.home()
    data = _folder("XDG_DATA_HOME", home / ".local/share")
    settings = _folder("XDG_CONFIG_HOME", home / ".config")
    if shell == "fish":
        return _told([_written(settings / "fish/completions/gpt2.fish", script)], "fish completes gpt2 from now on")
    if shell == "bash":
        # bash-completion looks here, where there is one; the line does it everywhere
        file, start = data / "bash-completion/completions/gpt2", home / ".bashrc"
        line = f"[ -r {_quoted(file)} ] && . {_quoted(file)}  # completion of gpt2"
    elif shell == "zsh":
        file, start = data / "gpt2cli/_gpt2", Path(os.environ.get("ZDOTDIR") or home) / ".zshrc"
        compdef = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }"
        line = f"[ -r {_quoted(file)} ] && {{ {compdef}; . {_quoted(file)}; }}  # completion of gpt2"
    else:
        start = _powershell_profile()
        file = start.with_name("gpt2.completion.ps1")
        literal = "'" + str(file).replace("'", "''") + "'"
        line = f"if (Test-Path {literal}) {{ . {literal} }}  # completion of gpt2"
    done = [_written(file, script), _with_line(start, line)]
    return _told(done, f"new sessions of {shell} complete gpt2")


def _folder(variable: str, default: Path) -> Path:
    """As the XDG specification says: a path from the root, or it does not count."""
    path = Path(os.environ.get(variable, ""))
    return path if path.is_absolute() else default


def _told(done: Sequence[str], last: str) -> list[str]:
    changes = [line for line in done if line]
    return [*changes, last] if changes else []


def _written(path: Path, text: str) -> str:
    if path.exists() and path.read_bytes() == text.encode():
        return ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    return f"wrote {path}"


def _with_line(path: Path, line: str) -> str:
    """Append a line to a shell's start-up file, unless it is there."""
    present = path.read_bytes() if path.exists() else b""
    octets = os.fsencode(line)  # a home's name may be any bytes
    if octets in present:
        return ""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(b"\n" * (not present.endswith(b"\n") and present != b"") + octets + b"\n")
    return f"added to {path}: {line}"


def _quoted(path: Path) -> str:
    """For bash and zsh."""
    return "'" + str(path).replace("'", "'\\''") + "'"


def _powershell_profile() -> Path:
    """$PROFILE, which only PowerShell knows: a Windows user may have moved Documents. Raises UsageError."""
    for program in ("pwsh", "powershell"):
        try:
            command = [program, "-NoProfile", "-Command", "$PROFILE"]
            return Path(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip())
        except (OSError, subprocess.SubprocessError):
            continue
    raise UsageError("PowerShell does not answer", "add it to $PROFILE by hand: gpt2 completion powershell")
