"""How surprising tokens or texts are, as bars: how many lie between 0 and 1 bit, 1 and 2, and so on."""

import math
import shutil
from collections.abc import Iterable, Iterator

from gpt2cli.console import display
from gpt2cli.console.scores import STOPS, Row

_MOST = 16  # bits: beyond, all are counted together
_WIDE = 100  # cells of a line at most
_EIGHTHS = " ▏▎▍▌▋▊▉"


class Histogram:
    """Counts tokens, or texts, as the rows go by."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.counts = [0] * (_MOST + 1)

    def count(self, rows: Iterable[Row]) -> BaseException | None:
        """All of them; returns what has ended the work early."""
        try:
            for row in rows:
                if self._kind == "tokens":
                    row.hand(lambda one: one.logprob, self._count)
                    continue
                row.finish(keep=False)
                score = row.score
                self._count(score.logprob / score.tokens if score.tokens and row.stopped is None else None)
        except STOPS as reason:
            return reason
        return None

    def _count(self, logprob: float | None) -> None:
        """A natural log-probability, of a token or the mean of a text's; None where nothing is known."""
        if logprob is not None:
            self.counts[min(_MOST, max(0, int(-logprob / math.log(2))))] += 1

    def lines(self) -> Iterator[str]:
        """A head, and a line for each bit, as far as there are any; none where nothing was counted."""
        total, most = sum(self.counts), max(self.counts)
        if not total:
            return
        used = [bits for bits, count in enumerate(self.counts) if count]
        room = min(_WIDE, shutil.get_terminal_size().columns) if display.stdout_is_terminal() else 80
        powers = self._kind == "texts"
        yield f"{'bits':>7}  " + powers * f"{'perplexity':>15}  " + f"{self._kind:>9}   share"
        for bits in range(used[0], used[-1] + 1):
            count = self.counts[bits]
            ends = f"{bits}+" if bits == _MOST else f"{bits}-{bits + 1}"
            perplexities = f"{2**bits:,}+" if bits == _MOST else f"{2**bits:,}-{2 ** (bits + 1):,}"
            start = f"{ends:>7}  " + powers * f"{perplexities:>15}  " + f"{count:>9,}  {count / total:6.1%}  "
            yield f"{start}{_bar(count / most, room - len(start))}".rstrip()


def _bar(share: float, cells: int) -> str:
    """In eighths of a cell; something for whatever is not nothing."""
    eighths = max(1, round(share * cells * 8)) if share else 0
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
