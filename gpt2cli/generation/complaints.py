"""A grammar's error -> one line for its author, with line and column in the author's own text."""

import re
from collections.abc import Iterable

from gpt2cli.errors import UsageError
from gpt2cli.generation.forms import Constraint, place_of


def problem(constraint: Constraint, message: str, *, gbnf: bool) -> UsageError:
    """llguidance's complaint, with the place in the user's text."""
    text = constraint.words
    if message.startswith("panic"):
        return wrong(constraint, 0, "llguidance fails on it, by an error of its own")
    if constraint.kind == "grammar" and not gbnf:
        placed = re.match(r"(?:at )?(\d+)\((\d+)\): (.*)", message)
        if placed:
            why = re.search(r"^error: (.*)", message, re.MULTILINE)
            line, column, reason = int(placed[1]), int(placed[2]), why[1] if why else placed[3]
            named = re.search(r'name: "(.+)"$', reason)  # which stands in what begins there
            row = text.split("\n")[line - 1]
            if named and (later := re.search(rf"(?<![\w\"]){re.escape(named[1])}\b", row[column - 1 :])):
                column += later.start()
            return wrong(constraint, (line, column), reason)
    echoed = re.search(r"regex parse error:\n {4}(.*)\n {4}( *)\^+\nerror: (.*)", message)
    if echoed and constraint.kind == "regex":
        return wrong(constraint, _offset_of_echo(text, echoed[1], len(echoed[2])), echoed[3])
    if constraint.kind == "regex" and "lookarounds" in message:
        border = re.search(r"\\[bB]|(?<!^)\^|\$(?!$)|\\[Az]", text)
        return wrong(constraint, border.start() if border else 0, "borders (\\b, ^ and $ within) are not supported")
    reason = echoed[3] if echoed else first_line(message)
    if reason.startswith("oneOf"):
        reason = "'oneOf' is supported where only one alternative can match; 'anyOf' allows several"
    return wrong(constraint, offset_of_word(text, echoed[1] if echoed else reason), reason)


def unread(constraint: Constraint, message: str) -> UsageError:
    """A complaint that ends in its place."""
    reason, _, place = message.partition(" at line ")
    line, _, column = place.partition(" column ")
    return wrong(constraint, (int(line), int(column)) if line.isdigit() and column.isdigit() else 0, reason)


def wrong(constraint: Constraint, place: int | tuple[int, int], reason: str, hint: str = "") -> UsageError:
    line, column = place_of(constraint.words, place) if isinstance(place, int) else place
    told = f"the {constraint.noun}, line {line}, column {column}: {reason[:200].rstrip('.')}"
    return UsageError(told, hint or _HINTS[constraint.kind])


_HINTS = {
    "regex": "the whole text must match it; look-around, back references and word borders are not supported",
    "json_schema": "see docs/constrain.md for the keywords that are supported",
    "grammar": "write Lark with a rule 'start', or GBNF with a rule 'root'",
}


def first_line(message: str) -> str:
    return next((line.strip() for line in message.splitlines() if line.strip()), "unknown")


def _offset_of_echo(text: str, echo: str, column: int) -> int:
    """The place in a regular expression of a column of what the library shows of it, in which some characters are
    escaped."""
    place = 0
    for character in echo[:column]:
        if place < len(text) and character in (text[place], "n" if text[place] == "\n" else ""):
            place += 1
    return place


def offset_of_word(text: str, reason: str) -> int:
    """The first place in the text of something that the complaint names: a quoted word, a word after a colon, a word
    before a number in brackets. The beginning where none is found."""
    words: Iterable[str] = [
        *re.findall(r"[\"'`]([^\"'`]+)[\"'`]", reason),
        *re.findall(r": (\S+)$", reason),
        *re.findall(r"(\w+) \(", reason),
        *re.findall(r"schema is (\w+)", reason),
        *re.findall(r"(\w+) is empty", reason),
        reason,
    ]
    for word in words:
        for written in (f'"{word}"', f'"#{word}"', word):
            found = re.search(rf"(?<![\w-]){re.escape(written)}(?![\w-])", text)
            if found:
                return found.start()
    return 0
