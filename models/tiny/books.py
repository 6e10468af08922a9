"""The corpus: plain-text books, and which of them training never sees."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

# Whole books. Two by authors whose other books are in the corpus, one by an author seen nowhere else, one adventure
# novel; none retells a tale that another book tells.
HELD_OUT = (
    "se_e-nesbit_the-railway-children.txt",
    "se_kenneth-grahame_the-wind-in-the-willows.txt",
    "se_l-frank-baum_the-wonderful-wizard-of-oz.txt",
    "se_jack-london_the-call-of-the-wild.txt",
)


def books(corpus: Path) -> Iterator[tuple[str, str]]:
    """(file name, text) of every book in `corpus`/books.tar.xz or `corpus`/books/*.txt, by name."""
    archive = corpus / "books.tar.xz"
    if archive.exists():
        with tarfile.open(archive) as tar:
            for member in sorted(tar.getmembers(), key=lambda member: member.name):
                file = tar.extractfile(member) if member.isfile() else None
                if file is not None and member.name.endswith(".txt"):
                    yield Path(member.name).name, file.read().decode("utf-8")
    else:
        for path in sorted((corpus / "books").glob("*.txt")):
            yield path.name, path.read_text(encoding="utf-8")
