"""Values as `--json` prints them, small ones, for what draws them."""

WORDS = ["<|endoftext|>", "The", " cat", " sat", " on", " mat"]


def token(text, logprob=-1.0, rank=1, **more):
    octets = text if isinstance(text, bytes) else text.encode(errors="replace")
    plain = {"id": 5, "token": octets.decode(errors="replace"), "bytes": list(octets), "logprob": logprob, "rank": rank}
    return plain | {"top": [{"id": 5, "token": "a", "logprob": -0.5}]} | more


def scored(*texts, **more):
    """Of `gpt2 score`, of texts that are lists of tokens."""
    sums = {"tokens": 1, "bytes": 1, "logprob": -1.0, "perplexity": 2.7, "bits_per_byte": 1.4}
    found = [
        {"file": None, "line": number, "text": "", **sums, "logprobs": tokens, "interrupted": False}
        for number, tokens in enumerate(texts, 1)
    ]
    return {"model": "tiny", "precision": "int8", "texts": found, "total": sums, "interrupted": False} | more


def explained(words=WORDS):
    """Of `gpt2 explain`, of six tokens, two layers and two heads: why the last one, rather than " moon"."""
    tokens = [token(word, -float(at), 10**at, id=at, entropy=at / 2) for at, word in enumerate(words)]
    tokens[0] |= {"logprob": None, "rank": None, "top": [], "entropy": None}
    places = list(range(6))

    def said(layer, place):
        other = tokens[place + 1] if place < 5 else tokens[1]
        return {"id": other["id"], "token": other["token"], "logprob": -0.2 - 2 + layer, "kl": float(2 - layer)}

    def head(number):
        # head 0 looks at the token itself, head 1 half at the first and half at the one before
        rows = [[0] * at + [1.0] if number == 0 or at == 0 else [0.5, *[0] * at] for at in places]
        if number:
            for at in places[1:]:
                rows[at][at - 1] += 0.5
        return {"head": number, "weights": rows}

    layers = [{"layer": layer, "heads": [head(0), head(1)]} for layer in (0, 1)]
    return {
        **{"model": "tiny", "precision": "int8", "start": True, "target": 5, "tokens": tokens},
        "next": {"top": [{"id": 7, "token": ".", "logprob": -0.1}], "entropy": 0.5},
        "lens": {
            "layers": [0, 1, 2],
            "positions": places,
            "said": [[said(layer, place) for place in places] for layer in (0, 1, 2)],
        },
        "attention": {"positions": places, "layers": layers},
        "rollout": {"positions": places, "weights": [[1 / (at + 1)] * (at + 1) for at in places]},
        "influence": {
            **{"method": "occlusion", "token": {"id": 5, "token": words[5]}, "instead": {"id": 9, "token": " moon"}},
            **{"base": 1.5, "scores": [None, 0.0, 0.5, -0.25, 0.1, None]},
        },
        "value_zeroing": {"layers": [{"layer": layer, "scores": [0.1, 0.2, 0.3, 0.4, 0.5, None]} for layer in (0, 1)]},
    }
