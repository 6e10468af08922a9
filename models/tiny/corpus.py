"""The corpus: plain-text books and short stories, and which of them training never sees."""

import csv
import hashlib
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

# Whole books, novels all: none retells a tale that another book tells. Three of the authors have other books in the
# corpus (Baum's are of the same series), Grahame has none.
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


SEPARATOR = "<|endoftext|>\n"
STORIES = ("tinystories.txt", "picturebooks.txt")


def stories(corpus: Path) -> tuple[list[str], list[str]]:
    """The stories of `corpus`/stories.tar.xz or `corpus`/stories/*.txt: those to train on, and those held out, which
    are the last 5 % of each file. None where there are no such files."""
    training: list[str] = []
    held_out: list[str] = []
    if not ((corpus / "stories.tar.xz").exists() or (corpus / "stories").is_dir()):
        return training, held_out
    for name in STORIES:
        found = [story.strip("\n") + "\n" for story in _file(corpus, name).split(SEPARATOR) if story.strip()]
        place = len(found) - len(found) // 20
        training += found[:place]
        held_out += found[place:]
    return training, held_out


def _file(corpus: Path, name: str) -> str:
    archive = corpus / "stories.tar.xz"
    if archive.exists():
        with tarfile.open(archive) as tar:
            file = tar.extractfile(f"stories/{name}")
            assert file is not None
            return file.read().decode("utf-8")
    return (corpus / "stories" / name).read_text(encoding="utf-8")


def main() -> None:
    """Print sources.tsv: what the corpus in a folder is."""
    corpus = Path(sys.argv[1])
    with (corpus / "SOURCES.tsv").open(encoding="utf-8", newline="") as file:
        rows = {Path(row["file"]).name: row for row in csv.DictReader(file, delimiter="\t")}
    print("file", "title", "author", "source", "licence", "bytes", "sha256", "split", sep="\t")
    for name, text in books(corpus):
        row, data = rows[name], text.encode()
        title = " ".join(row["title"].replace("\\r\\n", ": ").replace("\\", " ").split())
        split = "held out" if name in HELD_OUT else "training"
        digest = hashlib.sha256(data).hexdigest()
        print(name, title, row["author"], row["source_repo"], row["licence_basis"], len(data), digest, split, sep="\t")


if __name__ == "__main__":
    main()
