"""Put a trained checkpoint in place as the built-in model: its int8 export beside this file.

python models/tiny/ship.py RUN/checkpoint
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from gpt2cli.export import export

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    checkpoint = parser.parse_args().checkpoint
    with tempfile.TemporaryDirectory() as folder:
        for _ in export(checkpoint, Path(folder), "int8", activation_bits=16):
            pass
        for path in sorted(Path(folder).iterdir()):
            shutil.copyfile(path, HERE / path.name)
            print(f"{path.name} {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
