"""Where engines run, and how many of them: what a cluster is told."""

from dataclasses import dataclass

from gpt2cli.errors import CannotMeet


@dataclass(frozen=True)
class Place:
    """Where the model is found on each machine, and how it runs there."""

    name: str
    precision: str
    device: str
    source: str
    offline: bool


@dataclass(frozen=True)
class Sizes:
    """How many engines there are, and threads of each; 0: one on each machine, and all its processors."""

    engines: int = 0
    threads: int = 0

    def of(self, processors: list[int]) -> tuple[int, int]:
        """Of machines with so many processors each. Raises CannotMeet."""
        machines = [count for count in processors if count > 0]
        engines = self.engines or len(machines)
        threads = self.threads or max(1, min(machines, default=1) * len(machines) // max(1, engines))
        threads = min(threads, max(machines, default=1)) if not self.threads else threads
        if engines < 1 or sum(count // threads for count in machines) < engines:
            raise CannotMeet(
                f"{engines} engines of {threads} threads do not fit {sum(machines)} processors of the cluster",
                "lower --ray-engines or --threads",
            )
        return engines, threads
