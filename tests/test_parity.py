"""Against transformers itself (marker `parity`, extra `parity`): random checkpoints that it saved."""

import pytest
from texts import generate

from gpt2cli import Question, Sampling, embed, explain, load
from gpt2cli.engine.engine import Engine
from gpt2cli.export.export import export

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]

CONFIGS = {
    "plain": {},
    "untied": {"tie_word_embeddings": False},
    "inverse_layer_scale": {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
    "unscaled_erf_gelu": {"scale_attn_weights": False, "activation_function": "gelu"},
    "odd_heads": {"n_embd": 60, "n_head": 5, "n_inner": 70, "activation_function": "silu"},
    "wide_epsilon_relu": {"layer_norm_epsilon": 0.01, "activation_function": "relu", "n_positions": 200},
    "float16": {"dtype": "float16"},
    "bfloat16": {"dtype": "bfloat16"},
}


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS)
def saved(request, tmp_path):
    """(transformers model in float32, folder that it saved)"""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    changes = dict(request.param)
    dtype = getattr(torch, changes.pop("dtype", "float32"))
    shape = {"n_layer": 3, "n_head": 4, "n_embd": 64, "n_positions": 128, "vocab_size": 500}
    config = transformers.GPT2Config(
        **shape | changes, initializer_range=0.2, bos_token_id=499, eos_token_id=None, pad_token_id=499
    )
    model = transformers.GPT2LMHeadModel(config).to(dtype).eval()
    model.save_pretrained(tmp_path / "saved")
    return model.float(), tmp_path / "saved"


def test_fp32_logits_and_greedy_ids(saved, tmp_path):
    import torch

    model, folder = saved
    (tmp_path / "export").mkdir()
    for _ in export(folder, tmp_path / "export", "fp32"):
        pass
    engine = Engine(tmp_path / "export")
    ids = torch.randint(0, 499, (1, 60), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(ids).logits[0].numpy()
        mask = torch.ones_like(ids[:, :10])
        continued = model.generate(ids[:, :10], attention_mask=mask, max_new_tokens=64, do_sample=False)
    assert abs(engine.feed(ids.tolist(), every=True) - expected).max() < 1e-4
    opened = load(str(folder), precision="fp32", text=False)
    pieces = generate(opened, ids[0, :10].tolist(), sampling=Sampling(temperature=0), max_tokens=64)
    assert [piece.token for piece in pieces] == continued[0, 10:].tolist()


@pytest.mark.parametrize("end", [None, 7])
@pytest.mark.parametrize("ngram", [0, 2])
def test_beams(saved, end, ngram):
    import torch

    model, folder = saved
    ids = torch.randint(0, 499, (1, 10), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=30,
            num_beams=5,
            num_return_sequences=3,
            do_sample=False,
            length_penalty=1.0,
            early_stopping=False,
            no_repeat_ngram_size=ngram,
            eos_token_id=end,
            pad_token_id=499,
        )[:, 10:].tolist()
    opened = load(str(folder), precision="fp32", text=False)
    object.__setattr__(opened.engine.facts, "end", end)
    found = [[] for _ in range(3)]
    for piece in generate(
        opened, ids[0].tolist(), sampling=Sampling(no_repeat_ngram=ngram), max_tokens=30, beams=5, samples=3
    ):
        if piece.token is not None:
            found[piece.row].append(piece.token)
    cut = [row[: row.index(end)] if end in row else row for row in expected]
    assert found == cut


def test_vectors(saved):
    """Hidden states of every layer, and what the pipeline `feature-extraction` gives."""
    import torch
    import transformers

    model, folder = saved
    opened = load(str(folder), precision="fp32", text=False)
    ids = torch.randint(0, 499, (1, 60), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        states = model(ids, output_hidden_states=True).hidden_states
    for layer, expected in enumerate(states):
        found = embed(opened, ids[0].tolist(), pooling="none", layer=layer)
        assert abs(found - expected[0].numpy()).max() < 1e-4

    class Words(transformers.PreTrainedTokenizer):
        """The pipeline wants one: ids as text."""

        vocab_size = 499
        model_input_names = ["input_ids", "attention_mask"]

        def get_vocab(self):
            return {str(number): number for number in range(499)}

        def _tokenize(self, text):
            return text.split()

        def _convert_token_to_id(self, token):
            return int(token)

        def _convert_id_to_token(self, index):
            return str(index)

    features = transformers.pipeline("feature-extraction", model=model.transformer, tokenizer=Words(), device="cpu")
    text = " ".join(map(str, ids[0].tolist()))
    assert abs(embed(opened, ids[0].tolist(), pooling="none") - features(text)[0]).max() < 1e-4


def test_explanations(saved):
    """Attention and the lens, from what transformers has inside; value zeroing, by a hook in the block."""
    import torch

    model, folder = saved
    model.config._attn_implementation = "eager"  # the only one that shows its weights
    opened = load(str(folder), precision="fp32", text=False)
    ids = torch.randint(0, 499, (1, 60), generator=torch.Generator().manual_seed(4))
    found = explain(opened, ids[0].tolist(), Question(start=False, token=50))
    body, blocks = model.transformer, list(model.transformer.h)
    outputs = []
    hooks = [block.register_forward_hook(lambda *given: outputs.append(given[2])) for block in blocks]
    with torch.no_grad():
        inside = model(ids, output_attentions=True, output_hidden_states=True)
        whole = [one[0] if isinstance(one, tuple) else one for one in outputs]
        logs = torch.stack([model.lm_head(body.ln_f(one)) for one in (inside.hidden_states[0], *whole)])
        logs = logs.log_softmax(-1)[:, 0]
    for layer, expected in enumerate(inside.attentions):
        for head, weights in found.attention[layer].items():
            assert abs(weights.rows - expected[0, head].numpy()).max() < 1e-4
    assert abs(found.lens.logprobs - logs.max(-1).values.numpy()).max() < 1e-4
    kl = (logs[-1].exp() * (logs[-1] - logs)).sum(-1)
    assert abs(found.lens.divergences - kl.numpy()).max() < 1e-3
    for place, one in enumerate(found.tokens[1:]):
        assert one.logprob == pytest.approx(float(logs[-1, place, one.token]), abs=1e-4)
        assert one.entropy == pytest.approx(float(-(logs[-1, place].exp() * logs[-1, place]).sum()), abs=1e-4)

    width = model.config.n_embd
    for layer, block in enumerate(blocks):
        for place in (0, 20, 49):

            def zeroed(module, given, output, place=place):
                output[:, place, 2 * width :] = 0  # the values of c_attn
                return output

            hook = block.attn.c_attn.register_forward_hook(zeroed)
            outputs.clear()
            with torch.no_grad():
                model(ids)
            hook.remove()
            without = outputs[layer][0] if isinstance(outputs[layer], tuple) else outputs[layer]
            cosine = torch.nn.functional.cosine_similarity(without[0, 49], whole[layer][0, 49], dim=0)
            assert found.value_zeroing[layer][place] == pytest.approx(1 - float(cosine), abs=1e-5)
    for hook in hooks:
        hook.remove()

    def lead(before):
        with torch.no_grad():
            return float(model(before).logits[0, -1].log_softmax(-1)[ids[0, 50]])

    assert found.influence.base == pytest.approx(lead(ids[:, :50]), abs=1e-4)
    for place in (0, 20, 49):
        without = torch.cat([ids[:, :place], ids[:, place + 1 : 50]], dim=1)
        assert found.influence.scores[place] == pytest.approx(found.influence.base - lead(without), abs=2e-4)
