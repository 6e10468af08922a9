"""Many prompts of mixed length: `gpt2 batch` beside the bare engine, CTranslate2's generate_batch and llama.cpp's
parallel decoding: python benchmarks/batching.py [--work FOLDER] [--prompts 64] [--new 64] [--rounds 3]

One random checkpoint in GPT-2 124M's shapes for all, int8 and Q8_0. Each prompt has 8 to 256 random ids, and greedy
tokens after it, 16 rows at a time. The bare engine is what can be had: prompts that are fed and rows that all end
together, with nothing between two calls but arg-max. Rounds alternate. Prints tokens a second and ratios, and writes
FOLDER/batching.json. gpt2 batch is to have 85 % of the engine, 1.2 times CTranslate2 and 1.5 times llama.cpp.

With --worker NAME this file is one of the processes that are measured, in whatever environment it runs."""

import argparse
import json
import os
import random
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from rounds import HERE, alternate, answer, checkpoint

Prompts = list[list[int]]
Run = Callable[[], int]  # the tokens that were generated

ROWS = 16
TARGETS = {"engine": 0.85, "CTranslate2": 1.2, "llama.cpp": 1.5}
ENVIRONMENTS = {"CTranslate2": "ctranslate2", "llama.cpp": "llama"}


def prompts(count: int) -> Prompts:
    rng = random.Random(0)
    return [[rng.randrange(50_000) for _ in range(rng.randint(8, 256))] for _ in range(count)]


def of_engine(folder: str, threads: int, asked: Prompts, new: int) -> Run:
    from gpt2cli.model import load

    engine = load(folder, precision="int8", threads=threads, text=False).engine

    def run() -> int:
        for first in range(0, len(asked), ROWS):
            group = asked[first : first + ROWS]
            engine.reset()
            engine.select([None] * len(group))
            tokens = engine.feed(group).argmax(axis=1)
            for _ in range(new - 1):
                tokens = engine.feed(tokens[:, None].tolist()).argmax(axis=1)
        return len(asked) * new

    return run


def of_batch(folder: str, threads: int, asked: Prompts, new: int) -> Run:
    from gpt2cli.batch.rows import Row
    from gpt2cli.batch.running import Runner
    from gpt2cli.batch.wishes import Settings
    from gpt2cli.model import load

    model = load(folder, precision="int8", threads=threads, text=False)
    settings = Settings(body={"temperature": 0, "max_tokens": new, "ignore_eos": True})
    rows = [Row(number, number, {"prompt": ids}) for number, ids in enumerate(asked)]

    def run() -> int:
        model.engine.reset()  # else prompts are there from the round before
        return sum(one.tokens for one in Runner(model, settings, ROWS).answers(rows))

    return run


def of_ctranslate2(folder: str, threads: int, asked: Prompts, new: int) -> Run:
    import ctranslate2
    from ctranslate2_worker import convert

    place = str(convert(Path(folder), "int8"))
    generator = ctranslate2.Generator(place, compute_type="int8", intra_threads=threads)
    words = [[str(token) for token in ids] for ids in asked]

    def run() -> int:
        found = generator.generate_batch(
            words,
            max_batch_size=ROWS,
            max_length=new,
            min_length=new,
            sampling_topk=1,
            beam_size=1,
            include_prompt_in_result=False,
        )
        return sum(len(one.sequences_ids[0]) for one in found)

    return run


def of_llama(folder: str, threads: int, asked: Prompts, new: int) -> Run:
    import llama_cpp as lib
    import numpy as np
    from llama_worker import convert

    settings = lib.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_seq_max = ROWS * 1024, 512, ROWS
    settings.n_threads = settings.n_threads_batch = threads
    model = lib.llama_model_load_from_file(
        str(convert(Path(folder), "int8")).encode(), lib.llama_model_default_params()
    )
    context = lib.llama_init_from_model(model, settings)
    vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    batch = lib.llama_batch_init(512, 0, 1)

    def put(entries: list[tuple[int, int, int, bool]]) -> None:
        """(token, place, row, whether its logits are wanted) each."""
        batch.n_tokens = len(entries)
        for number, (token, place, row, wanted) in enumerate(entries):
            batch.token[number], batch.pos[number], batch.logits[number] = token, place, wanted
            batch.n_seq_id[number], batch.seq_id[number][0] = 1, row
        assert lib.llama_decode(context, batch) == 0

    def best(number: int) -> int:
        logits = lib.llama_get_logits_ith(context, number)
        return int(np.ctypeslib.as_array(logits, shape=(vocabulary,)).argmax())

    def run() -> int:
        """Rows that end make room for the next prompt at once, as in llama.cpp's own server."""
        memory = lib.llama_get_memory(context)
        lib.llama_memory_clear(memory, True)
        waiting, going, made = list(asked), dict[int, list[int]](), 0  # row -> token, place, tokens to come
        while waiting or going:
            for row in set(range(ROWS)).difference(going):
                if waiting:
                    ids = waiting.pop(0)
                    lib.llama_memory_seq_rm(memory, row, -1, -1)
                    put([(token, place, row, place == len(ids) - 1) for place, token in enumerate(ids)])
                    going[row] = [best(len(ids) - 1), len(ids), new - 1]
                    made += 1
            put([(token, place, row, True) for row, (token, place, _) in going.items()])
            for number, (row, (_, place, left)) in enumerate(list(going.items())):
                going[row] = [best(number), place + 1, left - 1]
                made += 1
                if left == 1:
                    del going[row]
        return made

    return run


KINDS = {"gpt2 batch": of_batch, "engine": of_engine, "CTranslate2": of_ctranslate2, "llama.cpp": of_llama}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("/tmp/gpt2-compare"))
    parser.add_argument("--size", default="124M")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="*", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--worker", choices=list(KINDS))
    parser.add_argument("--checkpoint")
    asked = parser.parse_args()
    if asked.worker:
        sys.path.insert(0, str(HERE / "peers"))
        answer(KINDS[asked.worker](asked.checkpoint, asked.threads, prompts(asked.prompts), asked.new))
        return
    from compare import install  # with the package, which a peer's environment has not

    asked.work.mkdir(parents=True, exist_ok=True)
    folder = checkpoint(asked.work, asked.size, asked.work)
    commands = {
        name: [
            install(asked.work, ENVIRONMENTS[name]) if name in ENVIRONMENTS else sys.executable,
            __file__,
            *("--worker", name, "--checkpoint", folder, "--threads", asked.threads),
            *("--prompts", asked.prompts, "--new", asked.new),
        ]
        for name in asked.only
    }
    settings = {"OMP_NUM_THREADS": str(asked.threads), "GPT2_CACHE": str(asked.work / "cache")}
    speeds: dict[str, list[float]] = {name: [] for name in asked.only}
    seen = dict.fromkeys(asked.only, 0)
    for name, seconds, tokens in alternate(commands, asked.rounds + 1, settings):
        seen[name] += 1
        if seen[name] > 1:  # the first warms up
            speeds[name].append(tokens / seconds)
        print(f"{name}: {tokens / seconds:,.0f} tokens/s", file=sys.stderr)
    found = {name: statistics.median(each) for name, each in speeds.items()}
    for name, speed in found.items():
        ratio = found.get("gpt2 batch", speed) / speed
        target = f"   gpt2 batch has {ratio:.2f} of it (at least {TARGETS[name]})" if name in TARGETS else ""
        print(f"{name:12} {speed:8,.0f} tokens/s{target}")
    (asked.work / "batching.json").write_text(json.dumps({"tokens_per_second": found}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
