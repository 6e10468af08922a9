"""lm-evaluation-harness says by `local-completions` what it says by its own backend `hf` (marker `parity`)."""

import json

import pytest

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]

TASKS = {
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{text}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    },
    "made": {
        "output_type": "generate_until",
        "doc_to_text": "{{text}}",
        "doc_to_target": "{{choices[answer]}}",
        "generation_kwargs": {"until": ["\n", "Q:", "zz"], "max_gen_toks": 9, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}
DOCS = [
    {"text": "The cat and the", "choices": [" dog", " sea", " old man"], "answer": 0},
    {"text": "a man was", "choices": [" wet", " 🙂", " old"], "answer": 2},
    {"text": "We shall have to ask the", "choices": [" dog", " tree and the sea"], "answer": 1},
    {"text": "naïve", "choices": ["é", " x"], "answer": 0},
]


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """evaluated(model, **model_args) -> task -> (its numbers, what the model answered to each document)"""
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in DOCS))
    for name, task in TASKS.items():
        data = {"data_files": {"test": str(tmp_path / "docs.jsonl")}}
        head = {"task": f"local_{name}", "dataset_path": "json", "dataset_kwargs": data, "test_split": "test"}
        (tmp_path / f"{name}.yaml").write_text(json.dumps(head | task))  # JSON is YAML

    def evaluate(backend, /, **model_args):
        manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
        found = lm_eval.simple_evaluate(
            backend,
            model_args,
            [f"local_{name}" for name in TASKS],
            task_manager=manager,
            bootstrap_iters=0,
            batch_size=2,
        )
        answers = {}
        for name in TASKS:
            samples = sorted(found["samples"][f"local_{name}"], key=lambda sample: sample["doc_id"])
            answers[name] = [sample["resps"] for sample in samples]
        return found["results"], answers

    return evaluate


def numbers(results):
    """task -> metric -> its number, of all that are numbers."""
    return {
        task: {name: value for name, value in metrics.items() if isinstance(value, float)}
        for task, metrics in results.items()
    }


@pytest.mark.parametrize("concurrent", [1, 4])
def test_the_numbers_are_those_of_lm_eval_s_own_backend(client, checkpoint, evaluated, concurrent):
    own, own_answers = evaluated("hf", pretrained=str(checkpoint), dtype="float32", device="cpu", max_length=64)
    ours, answers = evaluated(
        "local-completions",
        base_url=f"{client.url}/v1/completions",
        model="small",
        max_length=64,
        num_concurrent=concurrent,
    )
    for task, metrics in numbers(own).items():
        assert metrics
        assert numbers(ours)[task] == pytest.approx(metrics, abs=1e-3, rel=1e-3)
    assert answers["made"] == own_answers["made"]
    for mine, theirs in zip(answers["choice"], own_answers["choice"], strict=True):
        for ((sum_here, greedy_here),), ((sum_there, greedy_there),) in zip(mine, theirs, strict=True):
            assert float(sum_here) == pytest.approx(float(sum_there), abs=1e-3)
            assert str(greedy_here) == str(greedy_there)
