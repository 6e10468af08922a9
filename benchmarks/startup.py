"""Where the time of `gpt2 generate` goes before its first byte: python benchmarks/startup.py [MODEL] [--rounds 7]

Each stage is timed in new processes, one after another and round by round; medians in milliseconds. A stage includes
the ones before it, but for the two that run side by side."""

import argparse
import statistics
import subprocess
import sys
from time import perf_counter

_FOLDER = "store.ensure(sources.resolve({model!r})).folder"
_MODULES = "import gpt2cli.cli, gpt2cli.commands.generate, gpt2cli.console.record, gpt2cli.generation.texts"
STAGES = {
    "python": "pass",
    "the command line": "import gpt2cli.cli",
    "numpy": "import gpt2cli.cli, numpy",
    "onnxruntime": "import gpt2cli.cli, gpt2cli.engine.runtime",
    "all of our modules": _MODULES,
    "... and the tokenizer": f"{_MODULES}\nfrom gpt2cli.store import sources, store\n"
    f"from gpt2cli.tokenizer.tokenizer import Tokenizer\nTokenizer({_FOLDER})",
    "... and the session": f"{_MODULES}\nfrom gpt2cli.store import sources, store\n"
    f"from gpt2cli.engine.engine import Engine\nEngine({_FOLDER})",
    "... and both, as load does": f"{_MODULES}\nfrom gpt2cli import load\nload({{model!r}})",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="tiny")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    commands = {name: [sys.executable, "-c", code.format(model=arguments.model)] for name, code in STAGES.items()}
    generate = [sys.executable, "-m", "gpt2cli", "generate", "-q", "-m", arguments.model, "-n", "1", "Once upon"]
    commands["gpt2 generate, first byte"] = generate
    commands["gpt2 --help"] = [sys.executable, "-m", "gpt2cli", "--help"]
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(arguments.rounds + 1):
        for name, command in commands.items():
            start = perf_counter()
            with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
                process.stdout.read(1)
                elapsed = perf_counter() - start
                process.stdout.read()
            if process.returncode:
                sys.exit(f"{name} failed")
            if number:
                taken[name].append(elapsed * 1e3)
    for name, values in taken.items():
        print(f"{name:<28}{statistics.median(values):8.0f} ms")


if __name__ == "__main__":
    main()
