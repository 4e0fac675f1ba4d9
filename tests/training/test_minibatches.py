"""Passes over the data: every row once, in an order that the seed alone decides."""

from __future__ import annotations

import torch

from jointkl.sources import Bound
from jointkl.training.minibatches import Feed, Minibatches

CPU = torch.device("cpu")


def bound(law: str = "data(x,c)", count: int = 10) -> Bound:
    return Bound(law, ("x", "c"), (torch.arange(count).float() * 10, torch.arange(count)))


def drawn(feed: Feed, count: int) -> list[list[int]]:
    return [feed.draw()["c"].tolist() for _ in range(count)]


def test_a_pass_has_every_row_at_most_once_and_leaves_out_the_partial_batch() -> None:
    batches = drawn(Feed(bound(), 3, 0, CPU), 6)
    for start in (0, 3):
        rows = [row for batch in batches[start : start + 3] for row in batch]
        assert len(set(rows)) == 9
    assert batches[:3] != batches[3:], "the next pass has another order"


def test_columns_stay_together() -> None:
    batch = Feed(bound(), 4, 0, CPU).draw()
    assert torch.equal(batch["x"], batch["c"].float() * 10)


def test_the_whole_data_may_be_one_batch() -> None:
    assert [sorted(rows) for rows in drawn(Feed(bound(), 10, 0, CPU), 2)] == [list(range(10))] * 2


def test_the_seed_decides_and_torch_s_own_state_does_not() -> None:
    torch.manual_seed(0)
    first = drawn(Feed(bound(), 3, 5, CPU), 4)
    torch.manual_seed(1)
    feed = Feed(bound(), 3, 5, CPU)
    torch.rand(7)
    assert drawn(feed, 4) == first
    assert drawn(Feed(bound(), 3, 6, CPU), 4) != first


def test_two_laws_are_shuffled_apart() -> None:
    assert drawn(Feed(bound("a(x,c)"), 5, 0, CPU), 2) != drawn(Feed(bound("b(x,c)"), 5, 0, CPU), 2)


def test_a_place_brings_the_order_back() -> None:
    feed = Feed(bound(), 3, 0, CPU)
    drawn(feed, 4)
    place = feed.place
    generator = torch.Generator()
    generator.set_state(place.state)
    order = torch.randperm(10, generator=generator)
    assert feed.draw()["c"].tolist() == order[place.used : place.used + 3].tolist()


def test_a_batch_joins_the_laws_or_carries_its_length_alone() -> None:
    other = Bound("target(t)", ("t",), (torch.arange(7),))
    batch = Minibatches([bound(), other], 5, 0, CPU).draw()
    assert {key: len(value) for key, value in batch.items()} == {"x": 5, "c": 5, "t": 5}
    assert [len(value) for value in Minibatches([], 5, 0, CPU).draw().values()] == [5]
