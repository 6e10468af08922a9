"""What docs/json.md says of each JSON output is what the commands print."""

import json
import re
import shlex
import shutil

from documents import PAGES, blocks


def shape(value):
    """Keys in their order, and types; None where there is a choice of them."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value[:1]]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def agree(one, other):
    if "NoneType" in (one, other) or one == [] or other == []:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(agree(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return agree(one[0], other[0])
    return one == other


def test_the_json_is_what_the_page_shows(run, checkpoint, tmp_path, monkeypatch):
    """One after another: what one command leaves is what the next one shows."""
    shutil.copytree(checkpoint, tmp_path / "my-finetune")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "cache"))
    examples = re.findall(r"^`gpt2 ([^`]+)`\n\n```json\n(.*?)^```", PAGES["docs/json.md"], re.MULTILINE | re.DOTALL)
    assert len(examples) > 12
    for command, shown in examples:
        result = run(*shlex.split(command))
        assert result.code == 0, (command, result.stderr)
        printed = json.loads(result.stdout)
        assert agree(shape(json.loads(shown)), shape(printed)), (command, printed)
        if "gpt2 generate" in command:
            assert json.loads(shown)["samples"] == printed["samples"]


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
