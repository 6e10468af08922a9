"""What the server counts, in Prometheus' text format (version 0.0.4)."""

import bisect
import threading
from collections import Counter
from collections.abc import Iterator, Sequence

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Histogram:
    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        return sum(self._counts)

    def lines(self, name: str) -> Iterator[str]:
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self.sum:.6f}"
        yield f"{name}_count {total}"


class Metrics:
    """Counted by the engine's thread and the event loop; each number is one's."""

    def __init__(self) -> None:
        self.waiting = self.running = self.rows = 0  # now
        self.prompt_tokens = self.cached_tokens = self.generated_tokens = 0
        self.cancelled = self.refused = 0
        self.requests: Counter[tuple[str, int]] = Counter()  # by route and status
        self.first_token, self.seconds, self.step_rows = Histogram(_SECONDS), Histogram(_SECONDS), Histogram(_ROWS)
        self._lock = threading.Lock()

    def answered(self, route: str, status: int, seconds: float) -> None:
        with self._lock:
            self.requests[route, status] += 1
            self.seconds.observe(seconds)

    def text(self) -> str:
        gauges = (
            ("requests_running", "gauge", "Requests that have rows.", self.running),
            ("requests_waiting", "gauge", "Requests that wait for rows.", self.waiting),
            ("rows_running", "gauge", "Rows of the batch.", self.rows),
            ("prompt_tokens_total", "counter", "Tokens of prompts.", self.prompt_tokens),
            ("cached_tokens_total", "counter", "Those of them that needed not be computed.", self.cached_tokens),
            ("generated_tokens_total", "counter", "Tokens generated.", self.generated_tokens),
            ("cancelled_total", "counter", "Requests whose client left before the end.", self.cancelled),
            ("refused_total", "counter", "Requests refused because too many waited.", self.refused),
        )
        histograms = (
            ("time_to_first_token_seconds", "From a request to its first token.", self.first_token),
            ("request_seconds", "From a request to the end of its answer.", self.seconds),
            ("step_rows", "Rows served by a step of the engine.", self.step_rows),
        )
        lines = []
        for name, kind, help, value in gauges:
            lines += [f"# HELP gpt2_{name} {help}", f"# TYPE gpt2_{name} {kind}", f"gpt2_{name} {value}"]
        lines += ["# HELP gpt2_requests_total Answers, by route and status.", "# TYPE gpt2_requests_total counter"]
        with self._lock:
            counted = sorted(self.requests.items())
        lines += [f'gpt2_requests_total{{route="{route}",status="{status}"}} {n}' for (route, status), n in counted]
        for name, help, histogram in histograms:
            lines += [f"# HELP gpt2_{name} {help}", f"# TYPE gpt2_{name} histogram", *histogram.lines(f"gpt2_{name}")]
        return "\n".join(lines) + "\n"
