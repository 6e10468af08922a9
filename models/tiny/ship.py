"""Put a trained checkpoint in place as the built-in model: its int8 export beside this file, and ../tiny.toml.

python models/tiny/ship.py RUN/checkpoint [--revision 2026-11-21]
"""

import argparse
import datetime
import hashlib
import shutil
import tempfile
from pathlib import Path

from gpt2cli.export.checkpoint import read_config
from gpt2cli.export.export import export
from gpt2cli.export.rounding import Form, Rounding

HERE = Path(__file__).parent
MANIFEST = """\
description = "trained by this project on children's books and short stories"
licence = "MIT"
folder = "tiny"
revision = "{revision}"
parameters = {config.parameters}
layers = {config.n_layer}
heads = {config.n_head}
width = {config.n_embd}
positions = {config.n_positions}
vocabulary = {config.vocab_size}

# What `gpt2 verify tiny` expects.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--revision", default=datetime.date.today().isoformat())
    arguments = parser.parse_args()
    manifest = MANIFEST.format(revision=arguments.revision, config=read_config(arguments.checkpoint))
    with tempfile.TemporaryDirectory() as folder:
        for _ in export(arguments.checkpoint, Path(folder), "int8", Rounding(Form(8, 16), unsigned=True)):
            pass
        for path in sorted(Path(folder).iterdir()):
            shutil.copyfile(path, HERE / path.name)
            size, digest = path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
            print(f"{path.name} {size:,} bytes")
            manifest += f'[files."{path.name}"]\nsize = {size}\nsha256 = "{digest}"\n\n'
    (HERE.parent / "tiny.toml").write_text(manifest.rstrip() + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
