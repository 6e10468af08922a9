"""Read a line, answer it, until somebody leaves."""

import contextlib
import os
import shlex
import sys
import time

from gpt2cli.console import terminal
from gpt2cli.console.signals import HANGUP, undisturbed
from gpt2cli.errors import Terminated, UserError
from gpt2cli.repl import commands, files
from gpt2cli.repl.desk import Desk
from gpt2cli.repl.knobs import worded
from gpt2cli.repl.lineeditor import BLOCK, is_closed

_RECENT = 7 * 24 * 3600  # seconds for which a text that was not saved is offered


def run(desk: Desk) -> None:
    """Until the user leaves. What is not saved then is kept, where the desk has drafts."""
    desk.screen.say("Write, and the model goes on. /help lists the commands, Ctrl-D leaves.")
    kept = desk.drafts.others() if desk.drafts else []
    changed = files.state(kept[-1]) if kept else None
    if changed and time.time() - changed[0] / 1e9 < _RECENT:
        when = time.strftime("%d %B, %H:%M", time.localtime(changed[0] / 1e9))
        desk.screen.say(f"a text of {when} was not saved: /restore brings it back")
    if desk.session.document.nodes[1:]:
        if desk.file:
            desk.screen.rule(str(desk.file))
        desk.show()
        desk.say_cut()
    try:
        with desk.screen.held():
            _converse(desk)
    finally:  # nobody loses a text because a terminal was closed
        with undisturbed():
            _leave(desk)


def _leave(desk: Desk) -> None:
    kept_at = desk.drafts.keep(desk.session.document) if desk.drafts and desk.changed else None
    if desk.drafts and not kept_at:
        desk.drafts.drop()
    with contextlib.suppress(OSError):  # there may be no terminal any more
        desk.screen.end()
        if kept_at:
            desk.screen.say("not saved, but kept:")
            terminal.say(f"gpt2 repl --load {shlex.quote(str(kept_at))}")


def _converse(desk: Desk) -> None:
    warned = False
    while True:
        try:
            desk.draft()  # here Ctrl-C stops nothing, and it is done again
            line = desk.screen.read()
        except EOFError:
            if not sys.stdin.isatty():  # no Ctrl-D: it has gone, before its signal
                raise Terminated(HANGUP) from None
            if warned or desk.drafts or not desk.changed:
                return
            warned = True
            desk.screen.say("the text is not saved and will be lost: /save FILE; Ctrl-D again or /exit leaves")
            continue
        except KeyboardInterrupt:
            desk.screen.say("Ctrl-D or /exit leaves; /help lists the commands")
            continue
        except OSError:  # the terminal has gone; its signal comes later, or not at all
            raise Terminated(HANGUP) from None
        try:
            _answer(desk, line)
        except EOFError:
            return
        except KeyboardInterrupt:
            desk.screen.say("stopped")
        except UserError as error:
            desk.screen.error(worded(error.message), worded(error.hint))
        except Exception as error:  # a mistake of ours costs nobody a text
            if not sys.stdin.isatty():  # nor does a terminal that closes amid the writing
                raise Terminated(HANGUP) from None
            if os.environ.get("GPT2_DEBUG"):
                raise
            bug = "this is a bug: run again with GPT2_DEBUG=1 and report it; /save keeps the text"
            desk.screen.error(f"unexpected {type(error).__name__}: {error}", bug)


def _answer(desk: Desk, line: str) -> None:
    """A command, or text for the document, after which the model goes on."""
    if line.startswith("/") and not line.startswith("//") and "\n" not in line:
        return commands.run(desk, line)
    if line.startswith(BLOCK) and is_closed(line):
        text = line.rstrip()[len(BLOCK) : -len(BLOCK)].removeprefix("\n").removesuffix("\n")
    else:
        text = line.removeprefix("/") if line.startswith("//") else line
    return desk.append(text) if text else desk.go_on()
