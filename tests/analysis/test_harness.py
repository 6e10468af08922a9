"""gpt2 eval says what lm-evaluation-harness and Hugging Face's guide to perplexity say (marker `parity`)."""

import json
import shutil
from pathlib import Path

import pytest

from gpt2cli import evaluate

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]

CHOICES = [
    {"context": "The cat and the", "choices": ["dog", "sea", "old man"], "answer": 0},
    {"context": "a man was", "choices": ["wet", "🙂", "old"], "answer": 2},
    {"context": "We shall have to ask the ", "choices": ["dog", "tree and the sea"], "answer": 1},
    {"context": "the three of them sat down " * 6, "choices": ["dog", "rain had stopped", "naïve"], "answer": 1},
]
LAST_WORDS = [
    {"text": "The cat and the dog"},
    {"text": "the three of them sat down\n\nunder a tree"},
    {"text": "“We shall have to ask somebody,” said the dog. " * 4 + "Somebody"},
    {"text": "a 🙂 naïve man"},
]
WIKI = """ \n = The Cat = \n \n The cat , and the dog 's sea @-@ man ; it was 3 @,@ 000 old . \n \n = = Rain = = \n
 " When the rain had stopped , " ( he said ) . \n \n = Two = \n \n the sea was old , and the man was wet . \n"""
TASKS = {
    "choices": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{context}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "words": {  # as tasks/lambada/lambada_openai.yaml
        "output_type": "loglikelihood",
        "doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}",
        "doc_to_target": "{{' '+text.split(' ')[-1]}}",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "wiki": {  # as tasks/wikitext/wikitext.yaml
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}],
    },
}
FUNCTIONS = """
doc_to_target: !function preprocess_wikitext.wikitext_detokenizer
process_results: !function preprocess_wikitext.process_results
"""


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path):
    """The same items for both."""
    (tmp_path / "wiki.raw").write_text(WIKI * 3)
    return {
        "choices": write(tmp_path / "choices.jsonl", CHOICES),
        "words": write(tmp_path / "words.jsonl", LAST_WORDS),
        "wiki": tmp_path / "wiki.raw",
    }


@pytest.fixture
def harness(checkpoint, files, tmp_path, monkeypatch):
    """metric -> value of each task, by its own backend."""
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.tasks import TaskManager

    from gpt2cli.analysis.evaluation import reading

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    home = Path(lm_eval.__file__).parent / "tasks/wikitext"
    shutil.copy(home / "preprocess_wikitext.py", tmp_path)
    monkeypatch.setattr(reading.detokenizers, "wikitext", str)  # the pages as they are
    pages = [{"page": page.text} for page in reading.pages(files["wiki"])]
    monkeypatch.undo()
    data = files | {"wiki": write(tmp_path / "pages.jsonl", pages)}
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    for name, task in TASKS.items():
        where = {"data_files": {"test": str(data[name])}}
        head = {"task": f"local_{name}", "dataset_path": "json", "dataset_kwargs": where, "test_split": "test"}
        written = "".join(f"{key}: {json.dumps(value)}\n" for key, value in (head | task).items())
        (tmp_path / f"{name}.yaml").write_text(written + (FUNCTIONS if name == "wiki" else ""))
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    found = lm_eval.simple_evaluate(
        "hf",
        {"pretrained": str(checkpoint), "dtype": "float32", "device": "cpu", "max_length": 64},
        [f"local_{name}" for name in TASKS],
        task_manager=manager,
        bootstrap_iters=0,
        batch_size=2,
    )
    return {
        name: {key.partition(",")[0]: value for key, value in found["results"][f"local_{name}"].items()}
        for name in TASKS
    }


def values(result):
    return {metric.name: metric.value for metric in result.metrics}


def test_the_numbers_are_those_of_lm_eval(small, files, harness):
    (result,) = evaluate(small, str(files["choices"]))
    assert values(result)["acc"] == pytest.approx(harness["choices"]["acc"])
    assert values(result)["acc_norm (characters)"] == pytest.approx(harness["choices"]["acc_norm"])

    result = evaluate(small, "lambada", data=files["words"])[0]
    assert values(result)["perplexity (last word, lm-eval)"] == pytest.approx(harness["words"]["perplexity"], rel=1e-4)
    assert values(result)["acc (whole word, lm-eval)"] == pytest.approx(harness["words"]["acc"])

    result = evaluate(small, "wikitext2", data=files["wiki"])[2]
    assert result.items == 6
    for theirs, ours in (
        ("word_perplexity", "perplexity (word, lm-eval)"),
        ("byte_perplexity", "perplexity (byte, lm-eval)"),
        ("bits_per_byte", "bits per byte (lm-eval)"),
    ):
        assert values(result)[ours] == pytest.approx(harness["wiki"][theirs], rel=1e-4)


@pytest.mark.parametrize("stride", [20, 32, 64])
def test_the_numbers_are_those_of_the_guide(small, checkpoint, files, stride):
    """Its loop, but for the mean, which is that of the tokens."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.GPT2LMHeadModel.from_pretrained(str(checkpoint)).eval()
    rows = [line if line.strip() else "" for line in (WIKI * 3).splitlines(keepends=True)]
    ids = torch.tensor([small.tokenizer.encode("\n\n".join(rows))])
    total, count, before = 0.0, 0, 0
    for begin in range(0, ids.size(1), stride):
        end = min(begin + 64, ids.size(1))
        fed, labels = ids[:, begin:end], ids[:, begin:end].clone()
        labels[:, : before - end] = -100
        with torch.no_grad():
            logits = model(fed).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits[0], labels[0, 1:], reduction="sum", ignore_index=-100)
        total += float(loss)
        count += int((labels[0, 1:] != -100).sum())
        before = end
        if end == ids.size(1):
            break
    result = evaluate(small, "wikitext2", data=files["wiki"], stride=stride)[0]
    assert result.tokens == count
    assert -result.logprob == pytest.approx(total, rel=1e-5)
