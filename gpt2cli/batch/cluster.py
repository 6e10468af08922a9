"""Rows on the machines of a Ray cluster: an engine for each actor, rows in small blocks. Ray starts the actors, starts
one again that was lost, and does its blocks again; nothing here does. What an answer is does not depend on it.

Each machine gets the model's files as it would for `gpt2 generate`: once, from the hub, or from a folder that all of
them see."""

import contextlib
import itertools
import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from gpt2cli.batch import identity
from gpt2cli.batch.answers import Answer, Json
from gpt2cli.batch.places import Place, Sizes
from gpt2cli.batch.rows import Row
from gpt2cli.batch.running import Runner
from gpt2cli.batch.wishes import Settings
from gpt2cli.errors import CannotMeet, NetworkError, UsageError, UserError

try:
    import ray
except ImportError:
    raise UsageError("--ray needs the package ray", "pip install 'gpt2cli[ray]'") from None

_BLOCK = 32  # rows
_AT_ONCE = 2  # blocks of an actor: while one comes to its end the other keeps the engine busy
_AHEAD = 256  # blocks that may be done before one that takes longer
_PATIENCE = 5.0  # seconds for a cluster to answer
_AGAIN = 5  # times that a block is done again whose actor was lost


class _Worker:
    """What runs on a machine."""

    def __init__(self, place: Place, settings: Settings, rows: int, threads: int) -> None:
        from gpt2cli.model import load

        model = load(
            place.name,
            precision=place.precision,
            device=place.device,
            source=place.source,
            offline=place.offline,
            threads=threads,
        )
        self._identity = identity.of(model)
        most = rows or model.engine.rows_at_once()
        self._runner = Runner(model, settings, max(1, most // _AT_ONCE))

    def model(self) -> Json:
        return self._identity

    def answers(self, rows: list[Row]) -> list[Answer]:
        return list(self._runner.answers(rows))


class Cluster:
    """Engines on a cluster. A context manager, which leaves it."""

    def __init__(self, address: str, place: Place, settings: Settings, *, model: Json, rows: int, sizes: Sizes) -> None:
        """`address` as ray.init has it, `auto` or `local`; `model` is what the engines must be of. Raises
        NetworkError."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._left = contextlib.ExitStack()
        # Ray says on stdout what becomes of its actors, and stdout is for the answers
        nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - the stack closes it
        self._left.enter_context(nowhere)
        self._left.enter_context(contextlib.redirect_stdout(nowhere))
        self._left.callback(ray.shutdown)
        try:
            host, colon, port = address.rpartition(":")
            if colon and port.isdigit() and "://" not in address:  # Ray itself would try for minutes
                socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
            ray.init(address=address, log_to_driver=False, logging_level="error", include_dashboard=False)
        except Exception as reason:  # Ray has many, and some are nothing but Exception
            self._left.close()
            first = str(reason).strip().splitlines()[0] if str(reason).strip() else type(reason).__name__
            raise NetworkError(
                f"no Ray cluster answers at '{address}': {first}", "start one with `ray start --head`, or --ray local"
            ) from None
        self._model = model
        count, threads = sizes.of([int(one["Resources"].get("CPU", 0)) for one in ray.nodes() if one["Alive"]])
        remote = ray.remote(_Worker).options(
            num_cpus=threads,
            num_gpus=1 if place.device == "cuda" else 0,
            max_restarts=-1,
            max_task_retries=_AGAIN,
            max_concurrency=_AT_ONCE,
            scheduling_strategy="SPREAD",
        )
        self._actors = [remote.remote(place, settings, rows, threads) for _ in range(count)]

    def answers(self, rows: Iterable[Row]) -> Iterator[Answer]:
        """Of all rows, as they come. Raises UserError."""
        flying: dict[Any, tuple[int, Any]] = {actor.model.remote(): (-1, actor) for actor in self._actors}
        free: list[Any] = []
        rest = iter(rows)
        for number in itertools.count():
            block = list(itertools.islice(rest, _BLOCK))
            if not block:
                break
            while not free or number - min((n for n, _ in flying.values() if n >= 0), default=number) >= _AHEAD:
                yield from self._landed(flying, free)
            actor = free.pop()
            flying[actor.answers.remote(block)] = number, actor
        while any(number >= 0 for number, _ in flying.values()):
            yield from self._landed(flying, free)

    def _landed(self, flying: dict[Any, tuple[int, Any]], free: list[Any]) -> list[Answer]:
        """The answers of a block that is done."""
        (ref, *_), _ = ray.wait(list(flying), num_returns=1)
        number, actor = flying.pop(ref)
        try:
            found = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise
        except ray.exceptions.RayActorError as error:
            if isinstance(getattr(error, "cause", None), UserError):
                raise error.cause from None
            raise NetworkError(
                f"a worker of Ray was lost {_AGAIN + 1} times over: {str(error).splitlines()[0]}",
                "the same command goes on; do its machines have memory enough?",
            ) from None
        if number < 0:
            if found != self._model:
                raise CannotMeet("a machine of the cluster has another model of this name", "copy the folder anew")
            free += [actor] * _AT_ONCE
            return []
        free.append(actor)
        answers: list[Answer] = found
        return answers

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.close()
