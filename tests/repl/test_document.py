"""The tree of texts: undo, redo, branches, and files that are read whole or not at all."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2cli.errors import CorruptFile, UsageError
from gpt2cli.repl.document import Document
from gpt2cli.repl.files import Drafts


@pytest.fixture
def story():
    """Root - 1 "Once " - 2 "upon" (model)
    - 3 "more" (model) - 4 "!"."""
    document = Document()
    document.append("you", "Once ")
    document.append("model", "upon", ids=[5, 6], model="tiny", seed=1, settings={"top_k": 40})
    document.undo()
    document.append("model", "more", ids=[7], model="tiny", seed=2)
    document.append("you", "!")
    return document


def test_the_text_is_the_path(story):
    assert story.text == "Once more!"
    story.goto(2)
    assert story.text == "Once upon"
    assert [node.id for node in story.path(4)] == [1, 3, 4]


def test_undo_and_redo_walk_the_branch_visited_last(story):
    assert [story.undo().id for _ in range(3)] == [4, 3, 1]
    assert story.text == ""
    assert [story.redo().id for _ in range(3)] == [1, 3, 4]
    story.goto(2)
    story.undo()
    assert story.redo().id == 2


def test_the_ends_of_undo_and_redo_are_errors(story):
    with pytest.raises(UsageError, match="redo"):
        story.redo()
    story.goto(0)
    with pytest.raises(UsageError, match="undo"):
        story.undo()
    assert story.current == 0


def test_redo_of_a_loaded_document_goes_to_the_newest(story):
    story.goto(1)
    again = Document.from_json(story.to_json(), "it")
    assert again.redo().id == 3


def test_branches_are_the_ends_and_the_named(story):
    assert [node.id for node in story.branches()] == [2, 4]
    story.goto(1)
    story.name("begin")
    assert [node.id for node in story.branches()] == [1, 2, 4]
    assert story.names_of(1) == ["begin"]


def test_places_are_found_by_name_and_number(story):
    story.name("end")
    assert (story.find("end"), story.find("2"), story.find("0")) == (4, 2, 0)
    for word in ("5", "-1", "other", "", "²"):
        with pytest.raises(UsageError, match="no branch or place"):
            story.find(word)


@pytest.mark.parametrize("name", ["", "12", "two words", " "])
def test_names_that_cannot_be_told_from_others(story, name):
    with pytest.raises(UsageError):
        story.name(name)


def test_a_name_is_not_taken_twice(story):
    story.name("here")
    story.name("here")
    story.undo()
    with pytest.raises(UsageError, match="taken"):
        story.name("here")


def test_rewriting_keeps_the_common_nodes(story):
    story.rewrite("Once more, again")
    assert [node.id for node in story.path()] == [1, 3, 5]
    assert story.nodes[5].author == "you"
    assert story.nodes[5].text == ", again"
    story.rewrite("Once")  # in the middle of a node
    assert story.text == "Once"
    assert story.nodes[story.current].parent == 0
    story.rewrite("")
    assert story.current == 0
    count = len(story.nodes)
    story.rewrite("")
    assert len(story.nodes) == count


def test_shortening_at_a_node_adds_none(story):
    story.rewrite("Once more")
    assert story.current == 3
    assert len(story.nodes) == 5


@pytest.mark.long
@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(["you", "model", "undo", "goto"]), st.text(max_size=5)), max_size=12))
def test_a_saved_document_is_the_same_when_loaded(steps):
    document = Document()
    for what, text in steps:
        if what == "undo":
            document.goto(document.nodes[document.current].parent or 0)
        elif what == "goto":
            document.goto(len(text) % len(document.nodes))
        else:
            document.append(what, text, ids=[len(text)], seed=len(text))
    loaded = Document.from_json(document.to_json(), "it")
    assert loaded.nodes == document.nodes
    assert loaded.text == document.text
    assert loaded.to_json() == document.to_json()


def test_the_format_is_the_documented_one(story):
    story.name("end")
    data = json.loads(story.to_json())
    assert {key: data[key] for key in data if key != "nodes"} == {
        "format": "gpt2 document",
        "version": 1,
        "current": 4,
        "names": {"end": 4},
    }
    assert data["nodes"][2] == {
        "id": 2,
        "parent": 1,
        "author": "model",
        "text": "upon",
        "ids": [5, 6],
        "model": "tiny",
        "seed": 1,
        "settings": {"top_k": 40},
    }


def _broken(change):
    document = Document()
    document.append("you", "a")
    document.append("model", "b", ids=[1], seed=3)
    data = json.loads(document.to_json())
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda d: d.update(format="other"), "format"),
        (lambda d: d.update(version=2), "version 2"),
        (lambda d: d.pop("current"), "'current' is missing"),
        (lambda d: d.update(current=3), "current is 3"),
        (lambda d: d.update(current=True), "current is true"),
        (lambda d: d.update(names={"x": 9}), "node 9"),
        (lambda d: d.update(names=[]), "names"),
        (lambda d: d.update(nodes=[]), "node 0"),
        (lambda d: d.update(nodes={}), "nodes"),
        (lambda d: d["nodes"].pop(0), "node 0 has the id 1"),
        (lambda d: d["nodes"][0].update(text="x"), "empty root"),
        (lambda d: d["nodes"][1].update(parent=1), "node 1 has the parent 1"),
        (lambda d: d["nodes"][1].update(parent=2), "node 1 has the parent 2"),
        (lambda d: d["nodes"][1].update(parent=None), "node 1 has the parent None"),
        (lambda d: d["nodes"][1].update(parent=-1), "node 1 has the parent -1"),
        (lambda d: d["nodes"][1].update(author="she"), "author"),
        (lambda d: d["nodes"][1].update(text=None), "text of node 1"),
        (lambda d: d["nodes"][1].update(text="\ud800"), "surrogates"),
        (lambda d: d["nodes"][2].update(ids=["1"]), "token of node 2"),
        (lambda d: d["nodes"][2].update(ids=[-1]), "negative"),
        (lambda d: d["nodes"][2].update(seed="1"), "seed of node 2"),
        (lambda d: d["nodes"][2].update(settings=None), "settings of node 2"),
        (lambda d: d["nodes"][2].pop("model"), "'model' is missing"),
        (lambda d: d["nodes"].append("x"), "node 3"),
    ],
)
def test_a_broken_file_is_refused_with_its_reason(change, word):
    with pytest.raises(CorruptFile) as caught:
        Document.from_json(_broken(change), "'x.json'")
    assert caught.value.message.startswith("'x.json' is")
    assert word in caught.value.message


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "Once upon a time"])
def test_what_is_no_document_is_refused(text):
    with pytest.raises(CorruptFile, match="is no document"):
        Document.from_json(text, "it")


def test_markdown_has_your_text_in_bold_and_nothing_is_markup():
    document = Document()
    document.append("you", "The *old* man \n\nand")
    document.append("model", " the_sea\n# 1")
    document.append("you", "\n")
    assert document.to_markdown() == "**The \\*old\\* man** \n  \n**and** the\\_sea  \n\\# 1\n".replace(
        "man** \n  \n", "man**   \n  \n"
    )


def test_a_draft_costs_a_millisecond_or_so(tmp_path):
    document, drafts, seconds = Document(), Drafts(tmp_path / "unsaved"), []
    for seed in range(30):
        document.append("you", " and the king said that")
        document.append("model", " the sea" * 60, ids=[*range(128)], model="tiny", seed=seed, settings={"top_k": 40})
        begun = time.perf_counter()
        drafts.write(document)
        seconds.append(time.perf_counter() - begun)
    assert min(seconds[20:]) < 0.002
    (path,) = (tmp_path / "unsaved").glob("*.json")
    assert Document.from_json(path.read_text(), "it").text == document.text
    assert drafts.others() == []  # this one is being written
    drafts.drop()
    assert list((tmp_path / "unsaved").iterdir()) == []


def test_drafts_of_others_are_those_who_have_left(tmp_path):
    document = Document()
    document.append("you", "The king")
    first, second = Drafts(tmp_path), Drafts(tmp_path)
    first.write(document)
    (tmp_path / "20250101-000000-1.json").write_text(document.to_json())
    (tmp_path / "20250101-000000-1.lock").touch()  # of one that was killed
    assert [path.name for path in second.others()] == ["20250101-000000-1.json"]
    kept = first.keep(document)
    assert second.others()[-1] == kept
    assert list(tmp_path.glob("*.lock")) == []


def test_the_last_ten_stay(tmp_path):
    document = Document()
    document.append("you", "The king")
    for number in range(12):
        (tmp_path / f"20250101-0000{number:02}-1.json").write_text("{}")
    kept = Drafts(tmp_path).keep(document)
    assert [path.name[:15] for path in sorted(tmp_path.iterdir())][:-1] == [
        f"20250101-0000{number:02}" for number in range(3, 12)
    ]
    assert sorted(tmp_path.iterdir())[-1] == kept


def test_one_stands_at_a_branch_too(story):
    story.goto(1)
    assert [node.id for node in story.branches()] == [1, 2, 4]
    story.goto(0)
    assert [node.id for node in story.branches()] == [0, 2, 4]
