"""Many clients at a time: `gpt2 serve` beside llama-server, and beside one process a text.

    python benchmarks/serving.py --llama PATH/TO/llama-server [--work FOLDER] [--clients 16] [--rounds 3]

One random checkpoint in GPT-2 124M's shapes for all, int8 and Q8_0. Each client sends one request: a prompt of 30 to
300 random ids, after which 100 new tokens come, streamed. Rounds alternate between the servers. Then the gap between
two tokens of a running stream while a prompt of 900 tokens arrives; and on ours alone the time to the first token of an
idle server beside a call in a process, and `gpt2 bench` for a batch of as many rows. Writes FOLDER/serving.json."""

import argparse
import http.client
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

HERE = Path(__file__).resolve().parent
NEW, VOCABULARY = 100, 50257
# the likeliest token, and a draw from all of them: of a random model the hard case, where nothing can be left out
MODES = {"greedy": {"temperature": 0.0}, "drawn": {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}}


class Server:
    """A server process on a port of its own, and requests to it."""

    def __init__(self, name: str, command: list[str], port: int, settings: dict[str, str]) -> None:
        self.name, self.port = name, port
        self._process = subprocess.Popen(
            command, env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while True:
            if self._process.poll() is not None:
                raise SystemExit(f"{name} ended: {' '.join(command)}")
            try:
                if self._get("/health").status == 200:
                    return
            except OSError:
                pass
            sleep(0.2)

    def _get(self, path: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request("GET", path)
        return connection.getresponse()

    def tokens(self, ids: list[int], new: int, mode: str = "greedy") -> Iterator[float]:
        """When each token of the answer came."""
        body = {"prompt": ids, "max_tokens": new, "stream": True, "seed": 1, "ignore_eos": True} | MODES[mode]
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise SystemExit(f"{self.name}: {response.read()!r}")
        for line in response:
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    if choice["finish_reason"] is None or choice["text"]:
                        yield perf_counter()
        connection.close()

    def end(self) -> None:
        self._process.terminate()
        self._process.wait()


def together(server: Server, prompts: list[list[int]], mode: str) -> dict[str, float]:
    """All clients at once."""
    times: list[list[float]] = [[] for _ in prompts]

    def client(number: int) -> None:
        times[number] = list(server.tokens(prompts[number], NEW, mode))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(len(prompts))]
    begun = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = perf_counter() - begun
    gaps = [later - earlier for each in times for earlier, later in itertools.pairwise(each)]
    return {
        "tokens_per_second": NEW * len(prompts) / seconds,
        "seconds": seconds,
        "first_token": statistics.median(each[0] for each in times) - begun,
        "gap": statistics.median(gaps),
    }


def interrupted(server: Server, running: list[int], arriving: list[int]) -> dict[str, float]:
    """The gaps of a running stream, before and while a long prompt arrives."""
    times: list[float] = []
    arrival: list[float] = []
    for when in server.tokens(running, 400):
        times.append(when)
        if len(times) == 100:

            def arrive() -> None:
                arrival.append(perf_counter())
                arrival.append(next(server.tokens(arriving, 1)))

            thread = threading.Thread(target=arrive)
            thread.start()
    thread.join()
    gaps = [(later, later - earlier) for earlier, later in itertools.pairwise(times)]
    alone = [gap for when, gap in gaps if when < arrival[0]]
    during = sorted(gap for when, gap in gaps if arrival[0] <= when <= arrival[1])
    return {
        "gap": statistics.median(alone),
        "gap_during": statistics.median(during),
        "gap_p95_during": during[int(0.95 * (len(during) - 1))],
        "gaps_during": len(during),
        "prompt_seconds": arrival[1] - arrival[0],
    }


_ONE = """
import sys, time
from gpt2cli import Limits, Sampling, generate, load
model = load(sys.argv[1], precision="int8", threads=int(sys.argv[2]), text=False)
for seed in range(12):
    ids = [(31 * place + seed) % 50257 for place in range(64)]
    begun = time.perf_counter()
    next(generate(model, ids, Sampling(seed=seed), Limits(max_tokens=1)))
    print(time.perf_counter() - begun)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("benchmarks-work"))
    parser.add_argument("--llama", help="llama-server of llama.cpp; without it ours alone")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--size", default="124M")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    checkpoint = asked.work / f"random-{asked.size}"
    if not (checkpoint / "config.json").exists():
        subprocess.run([sys.executable, HERE / "random_gpt2.py", checkpoint, "--size", asked.size], check=True)
    settings = {"GPT2_CACHE": str(asked.work / "cache"), "GPT2_CONFIG": os.devnull}
    clients, threads = str(asked.clients), str(asked.threads)
    gpt2 = [sys.executable, "-m", "gpt2cli"]
    chosen = ["-m", str(checkpoint), "--precision", "int8", "--threads", threads]
    serve = ["serve", *chosen, "--port", "8301", "--parallel", clients, "-q"]
    servers = [Server("gpt2 serve", [*gpt2, *serve], 8301, settings)]
    if asked.llama:
        gguf = checkpoint / "llama-int8.gguf"
        command = [asked.llama, "-m", str(gguf), "--port", "8302", "-np", clients, "-t", threads, "-tb", threads]
        command += ["-c", str(1024 * asked.clients), "--no-webui"]
        servers.append(Server("llama-server Q8_0", command, 8302, {}))
    dice = random.Random(0)
    taken: dict[str, list[dict[str, float]]] = {f"{server.name}, {mode}": [] for mode in MODES for server in servers}
    for number in range(asked.rounds + 1):
        for mode in MODES:
            lengths = [dice.randint(30, 300) for _ in range(asked.clients)]
            prompts = [[dice.randrange(VOCABULARY - 1) for _ in range(length)] for length in lengths]
            for server in servers:
                figures = together(server, prompts, mode)
                print(server.name, mode, {key: round(value, 3) for key, value in figures.items()}, flush=True)
                if number:  # the first round warms up
                    taken[f"{server.name}, {mode}"].append(figures)
    ours = servers[0]
    found: dict[str, Any] = {
        name: {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        for name, rounds in taken.items()
    }
    for server in servers:
        long = [dice.randrange(VOCABULARY - 1) for _ in range(900)]
        found[f"{server.name}, interrupted"] = interrupted(server, [5, 6, 7, 8] * 10, long)
    firsts = []
    for _ in range(12):
        prompt = [dice.randrange(VOCABULARY - 1) for _ in range(64)]
        begun = perf_counter()
        firsts.append(next(ours.tokens(prompt, 1)) - begun)
    for server in servers:
        server.end()
    one = subprocess.run(
        [sys.executable, "-c", _ONE, str(checkpoint), threads],
        env=os.environ | settings,
        check=True,
        capture_output=True,
        text=True,
    )
    found["first token"] = {
        "server": statistics.median(firsts[2:]),
        "in process": statistics.median(list(map(float, one.stdout.split()))[2:]),
    }
    bench = [
        *gpt2,
        "bench",
        *chosen,
        "-p",
        "165",
        "-n",
        "100",
        "-d",
        "165",
        "-b",
        clients,
        "-r",
        "3",
        "--no-first-token",
        "--json",
    ]
    done = subprocess.run(bench, env=os.environ | settings, check=True, capture_output=True, text=True)
    found["gpt2 bench"] = json.loads(done.stdout)
    begun = perf_counter()
    for number in range(3):
        ids = " ".join(map(str, range(100 + number, 265 + number)))
        command = [*gpt2, "generate", "-q", *chosen, "--ids", ids, "-n", str(NEW), "--ignore-eos", "-s", "1"]
        subprocess.run(command, env=os.environ | settings, check=True, stdout=subprocess.DEVNULL)
    found["gpt2 generate, one after the other"] = {"tokens_per_second": 3 * NEW / (perf_counter() - begun)}
    (asked.work / "serving.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
