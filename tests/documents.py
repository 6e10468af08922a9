"""README.md and the pages of docs/, and what stands in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in (README, *DOCS)}


def blocks(kind, *pages):
    """The code blocks of a kind (the word behind the backticks), in these pages or in all."""
    texts = [PAGES[page] for page in pages or PAGES]
    return [
        block
        for text in texts
        for word, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
        if word == kind
    ]


def transcripts():
    """The commands of `console` blocks that show what is printed -> that. The others need a network or a terminal."""
    parts = (part for block in blocks("console") for part in re.split(r"^\$ ", block, flags=re.M) if part)
    return {command: shown for command, _, shown in (part.partition("\n") for part in parts) if shown}


def rows(page, heading):
    """The cells of the tables below a heading."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGES[page], re.M | re.S)[1]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in re.findall(r"^\|.*\|$", section, re.M)]


def anchors(text):
    """What a link may name behind its #, as hubs make it of headings."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.M)
    }
