"""Typing a line: what a terminal's signals do not tell."""

import io

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output

from gpt2cli.repl.lineeditor import LineEditor


@pytest.mark.parametrize("width", [100, 40])
def test_rows_that_were_broken_for_another_window_are_drawn_anew_although_no_signal_tells(width):
    """It came between the drawing of the rows and the line's first."""
    output = Vt100_Output(io.StringIO(), lambda: Size(rows=24, columns=100))
    drawn = []
    with create_pipe_input() as keys, create_app_session(input=keys, output=output):
        editor = LineEditor(lambda typed: (0, []), lambda columns, typed: "", "", None)
        keys.send_text("a line\r")
        assert editor.read(lambda: [], width, lambda: drawn.append(width)) == "a line"
    assert drawn == ([] if width == 100 else [40])
