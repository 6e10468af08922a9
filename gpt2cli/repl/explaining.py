"""/explain: why the last tokens of the document are what they are."""

import sys

from gpt2cli.analysis.explanation import Explainer
from gpt2cli.analysis.questions import Question
from gpt2cli.console import display, explanations
from gpt2cli.errors import UsageError
from gpt2cli.repl.desk import Desk
from gpt2cli.repl.document import whole_number

_NEAR = 32  # tokens that are shown and left out: of a long text all would take long


def explain(desk: Desk, rest: str) -> None:
    session = desk.session
    ids = session.context()
    if len(ids) < 2:
        raise UsageError("there is nothing to explain yet", "write a few words first")
    back = whole_number(rest) if rest else 1
    if not back or back >= len(ids):
        raise UsageError(
            f"'{rest[:40]}' is no token that was predicted",
            f"the last is 1, the one before it 2, up to {len(ids) - 1}: /explain 2",
        )
    question = Question(token=-back, start=False, parts=["influence"], near=_NEAR)
    explainer = Explainer(session.model, ids, question)
    for _ in explainer.inside():
        pass
    session.model.scheduler.run(explainer.influence())
    found = explainer.explanation
    views = ["text", "prediction", "influence"]
    coloured = display.columns(sys.stderr) > 0  # where it is told
    page = explanations.page(found, views, desk.screen.columns, coloured=coloured, last=_NEAR)
    desk.screen.say_rows(page.rstrip("\n"))
