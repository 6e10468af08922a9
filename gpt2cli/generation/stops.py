"""Stop strings, found across the boundaries of tokens."""

from collections.abc import Iterable


class StopStrings:
    """Text in, the text before the first stop string out; what may be the beginning of one is held back."""

    def __init__(self, stop: Iterable[str]) -> None:
        self._stop = list(stop)
        self.held = ""  # it may begin a stop string
        self.found = False

    def push(self, text: str) -> str:
        held = self.held + text
        found = [(held.find(stop) + len(stop), held.find(stop)) for stop in self._stop if stop in held]
        if found:  # the one that is complete first, however the text was cut into pieces
            self.found, self.held = True, ""
            return held[: min(found)[1]]
        longest = max(map(len, self._stop), default=1) - 1
        for start in range(max(0, len(held) - longest), len(held)):
            if any(stop.startswith(held[start:]) for stop in self._stop):
                self.held = held[start:]
                return held[:start]
        self.held = ""
        return held

    def finish(self) -> str:
        """What was held back and turned out to be text."""
        held, self.held = self.held, ""
        return held
