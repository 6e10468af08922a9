"""The REPL's screen, where no terminal is needed."""

import os
import signal
import sys
import time

import pytest

from gpt2cli.console import signals
from gpt2cli.errors import Terminated
from gpt2cli.repl.screen import Screen


@pytest.mark.skipif(sys.platform == "win32", reason="prompt_toolkit asks there for no blocking")
@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_amid_the_writing_is_not_dropped(monkeypatch, number, raised):
    screen = Screen(lambda line: (0, []), lambda columns, typed: "", lambda: None, None, wrap=True)
    asks = os.get_blocking

    def struck(descriptor):
        signal.raise_signal(number)
        return asks(descriptor)

    def write():
        screen.text("The king", yours=False)
        time.sleep(10)  # it may come a little later

    with signals.undisturbed():  # which restores them
        signal.signal(number, signal.SIG_DFL)
        signals.listen()
        monkeypatch.setattr(os, "get_blocking", struck)
        with pytest.raises(raised):
            write()
