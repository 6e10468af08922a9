"""The corpus: plain-text books and short stories, and which of them training never sees."""

import argparse
import csv
import hashlib
import random
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
        found = _all(corpus, name)
        training += found[: _place(found)]
        held_out += found[_place(found) :]
    return training, held_out


def _training(corpus: Path, name: str) -> list[str]:
    found = _all(corpus, name)
    return found[: _place(found)]


def _all(corpus: Path, name: str) -> list[str]:
    return [story.strip("\n") + "\n" for story in _file(corpus, name).split(SEPARATOR) if story.strip()]


def _place(found: list[str]) -> int:
    """Of the first that is held out."""
    return len(found) - len(found) // 20


def _file(corpus: Path, name: str) -> str:
    archive = corpus / "stories.tar.xz"
    if archive.exists():
        with tarfile.open(archive) as tar:
            file = tar.extractfile(f"stories/{name}")
            assert file is not None
            return file.read().decode("utf-8")
    return (corpus / "stories" / name).read_text(encoding="utf-8")


def write_texts(corpus: Path, folder: Path) -> None:
    """What the last two parts of the training read, FOLDER/first and FOLDER/second: in each learn/, and validation.txt
    with stories and a piece of a book that are not in it."""
    spared, read = _write_first(corpus, folder / "first")
    _write_second(corpus, folder / "second", spared, read)


def _write_first(corpus: Path, folder: Path) -> tuple[list[str], set[str]]:
    """Every story twice, and as much again of the books; returns the stories that were spared and the books' names."""
    draw = random.Random(5)
    found = stories(corpus)[0]
    order = list(range(len(found)))
    draw.shuffle(order)
    rest = [found[number] for number in sorted(order[120:])]
    for copy in (1, 2):
        draw.shuffle(rest)
        _write(folder / f"learn/stories-{copy}.txt", SEPARATOR.join(rest))
    unread, names = _write_books(corpus, folder, draw, 24e6, set())
    spared = [found[number] for number in order[:60]]
    _write(folder / "validation.txt", SEPARATOR.join([*spared, unread]))
    return spared, names


def _write_second(corpus: Path, folder: Path, spared: list[str], read: set[str]) -> None:
    """Every story, and again those of which the first part has few: the last of TinyStories, which are told in
    another manner, and picture books; and other books."""
    draw = random.Random(9)
    tales, pictures = (_training(corpus, name) for name in STORIES)
    told = [number for number in range(15_000, len(tales)) if number % 40 == 0]
    shown = [number for number in range(len(pictures)) if number % 100 == 7]
    kept = [number for number in range(len(tales)) if tales[number] not in spared and number not in told]
    late = [tales[number] for number in kept if number >= 13_900]
    latest = [tales[number] for number in kept if number >= 15_000]
    books_of_pictures = [text for number, text in enumerate(pictures) if text not in spared and number not in shown]
    _write_stories(folder / "learn/a.txt", [tales[number] for number in kept], draw)
    for name, texts in (("late", late), ("later", latest), ("pic", books_of_pictures)):
        for copy in (0, 1):
            _write_stories(folder / f"learn/{name}{copy}.txt", texts, draw)
    unread, _ = _write_books(corpus, folder, draw, 18e6, read)
    held = [*(tales[number] for number in told), *(pictures[number] for number in shown), *sorted(set(spared))[:15]]
    _write(folder / "validation.txt", SEPARATOR.join([*held, unread]))


def _write_stories(path: Path, texts: list[str], draw: random.Random) -> None:
    texts = list(texts)
    draw.shuffle(texts)
    _write(path, SEPARATOR.join(texts))


def _write_books(corpus: Path, folder: Path, draw: random.Random, size: float, read: set[str]) -> tuple[str, set[str]]:
    """Books of so many bytes, none of those `read`; returns a piece of another one, and their names."""
    texts = [(name, text) for name, text in books(corpus) if name not in HELD_OUT and name not in read]
    draw.shuffle(texts)
    (_, unread), *texts = texts
    names: set[str] = set()
    for name, text in texts:
        if size < 0:
            break
        size -= len(text.encode())
        names.add(name)
        _write(folder / "learn" / name, text)
    return unread[20_000:60_000], names


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def print_sources(corpus: Path) -> None:
    """sources.tsv: the books."""
    with (corpus / "SOURCES.tsv").open(encoding="utf-8", newline="") as file:
        rows = {Path(row["file"]).name: row for row in csv.DictReader(file, delimiter="\t")}
    print("file", "title", "author", "source", "licence", "bytes", "sha256", "split", sep="\t")
    for name, text in books(corpus):
        row, data = rows[name], text.encode()
        title = " ".join(row["title"].replace("\\r\\n", ": ").replace("\\", " ").split())
        split = "held out" if name in HELD_OUT else "training"
        digest = hashlib.sha256(data).hexdigest()
        print(name, title, row["author"], row["source_repo"], row["licence_basis"], len(data), digest, split, sep="\t")


def print_picture_books(corpus: Path) -> None:
    """picture_books.tsv: who wrote them."""
    with (corpus / "STORIES_SOURCES.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    print("title", "author", "licence", sep="\t")
    for row in rows:
        print(*(" ".join(row[name].split()) for name in ("title", "author", "licence")), sep="\t")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("what", choices=("sources", "picture-books", "texts"))
    parser.add_argument("folder", type=Path, nargs="?", help="of texts: where they go")
    asked = parser.parse_args()
    if asked.what == "texts":
        write_texts(asked.corpus, asked.folder)
    else:
        {"sources": print_sources, "picture-books": print_picture_books}[asked.what](asked.corpus)


if __name__ == "__main__":
    main()
