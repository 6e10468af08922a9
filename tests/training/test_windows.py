"""Every token is learnt from once an epoch."""

import numpy as np
import pytest

pytest.importorskip("torch")

from gpt2cli.training.documents import Corpus, Facts
from gpt2cli.training.network import IGNORED
from gpt2cli.training.windows import Place, Windows, in_order

pytestmark = pytest.mark.train


def corpus(count, prompts=()):
    facts = Facts(count, 1, count, "", (), "<u2")
    return Corpus(np.arange(count), np.array([0]), np.array(prompts, np.int64).reshape(-1, 2), facts)


@pytest.mark.parametrize(("count", "length", "rows"), [(101, 10, 3), (100, 10, 4), (11, 20, 1), (2, 5, 2), (64, 63, 5)])
def test_an_epoch_has_each_token_once(count, length, rows):
    windows, place, seen = Windows(corpus(count), length, seed=3), Place(), []
    while len(seen) < 2 * (count - 1):
        (ids, targets), place = windows.take(place, rows)
        assert len(ids) == rows
        kept = targets != IGNORED
        assert (targets[kept] == ids[kept] + 1).all()
        seen += targets[kept].tolist()
    first, second = sorted(seen[: count - 1]), sorted(seen[count - 1 : 2 * (count - 1)])
    assert first == second == list(range(1, count))


def test_the_order_is_the_seeds_and_differs_from_epoch_to_epoch():
    def order(seed, epoch):
        return Windows(corpus(500), 10, seed).take(Place(epoch), 20)[0][1].tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(2, 0)
    assert order(1, 0) != order(1, 1)


def test_prompts_have_no_loss():
    ((_, targets),) = in_order(corpus(40, [(5, 9), (20, 30)]), 40, 1)
    assert set(targets[targets != IGNORED].tolist()) == set(range(1, 40)) - set(range(5, 9)) - set(range(20, 30))


def test_in_order_has_each_token_once():
    found = [t for _, targets in in_order(corpus(101), 10, 3) for t in targets[targets != IGNORED].tolist()]
    assert found == list(range(1, 101))
