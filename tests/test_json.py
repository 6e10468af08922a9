"""What docs/json.md says of each JSON output is what the commands print."""

import json
import re
import shlex
import shutil

import pytest
from documents import PAGES, blocks


def alike(shown, printed):
    """The same keys in the same order, and the same types. What a machine does not know is null."""
    if shown is None or printed is None:
        return printed is None
    if isinstance(shown, dict) and isinstance(printed, dict):
        return list(shown) == list(printed) and all(alike(shown[key], printed[key]) for key in shown)
    if isinstance(shown, list) and isinstance(printed, list):
        return not shown or all(alike(shown[0], one) for one in printed)
    return kind(shown) == kind(printed)


def kind(value):
    return float if type(value) is int else type(value)


@pytest.mark.process
@pytest.mark.long
def test_the_json_is_what_the_page_shows(run, checkpoint, tmp_path, monkeypatch):
    """One after another: what one command leaves is what the next one shows."""
    shutil.copytree(checkpoint, tmp_path / "my-finetune")
    (tmp_path / "items.jsonl").write_text('{"context": "Once upon a", "target": "time"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "cache"))
    examples = re.findall(r"^`gpt2 ([^`]+)`\n\n```json\n(.*?)^```", PAGES["docs/json.md"], re.MULTILINE | re.DOTALL)
    assert len(examples) > 12
    assert run("generate", "-q", "-n", 8, "-s", 1, "--receipt", "cat.json", "The cat").code == 0
    for command, shown in examples:
        result = run(*shlex.split(command))
        assert result.code == (10 if command.startswith("replay") else 0), (command, result.stderr)
        printed = json.loads(result.stdout)
        assert alike(json.loads(shown), printed), (command, printed)


@pytest.mark.long
def test_lines_of_json_have_the_fields_that_the_page_says(run):
    def first(*argv):
        return json.loads(run(*argv).stdout.splitlines()[0])

    for command, many, rest in (("generate", "samples", ["timings"]), ("score", "texts", [])):
        whole = first(command, "The cat", "--jsonl"), json.loads(run(command, "The cat", "--json").stdout)
        line, fields = list(whole[0]), list(whole[1])
        assert line == [*fields[: fields.index(many)], *whole[1][many][0], *rest]
    timings = first("generate", "--jsonl", "--greedy", "--lookup", "-n", 3, "The cat")["timings"]
    assert list(timings)[-2:] == ["drafted", "accepted"]


def test_the_document_of_the_page_is_one():
    from gpt2cli.repl.document import Document

    shown = blocks("json", "docs/json.md")[-1]
    assert json.loads(Document.from_json(shown, "the page").to_json()) == json.loads(shown)
