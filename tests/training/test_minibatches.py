"""Passes over the data: every row once, in an order that the seed alone decides."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from jointkl.diagnostics import DataError
from jointkl.sources import Bound
from jointkl.sources.streams import Stream, from_bytes
from jointkl.training import minibatches
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


# --- rows that are not in memory


class Slow:
    """Rows that are read by whoever takes them, and note who it was."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.threads: list[str] = []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        self.threads.append(threading.current_thread().name)
        return self.rows[index]


def streamed(held: Bound, ahead: bool = True) -> Bound:
    """The same rows, the second column in memory."""
    x, c = held.columns
    assert isinstance(x, Tensor)
    return Bound(held.law, held.keys, (Stream(Slow(x), tuple(x.shape), x.dtype, ahead=ahead), c))


@pytest.mark.parametrize("ahead", [True, False])
def test_batches_do_not_depend_on_where_the_rows_lie(ahead: bool) -> None:
    here, there = Feed(bound(count=23), 4, 7, CPU), Feed(streamed(bound(count=23), ahead), 4, 7, CPU)
    for _ in range(14):
        assert torch.equal(here.place.state, there.place.state)
        assert here.place.used == there.place.used
        expected, found = here.draw(), there.draw()
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)
    for expected, found in ((here.first(), there.first()), (here.whole(), there.whole())):
        assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_the_next_batch_is_read_ahead_by_a_thread_unless_that_is_unwise() -> None:
    for ahead in (True, False):
        data = streamed(bound(count=12), ahead)
        stream = data.columns[0]
        assert isinstance(stream, Stream)
        assert isinstance(stream.reader, Slow)
        drawn(Feed(data, 3, 0, CPU), 4)
        others = [name for name in stream.reader.threads if name != threading.main_thread().name]
        assert len(stream.reader.threads) == 4, "a pass is read once, and nothing beyond it"
        assert len(others) == (3 if ahead else 0)


def test_a_feed_with_rows_ahead_goes_elsewhere() -> None:
    feed = Feed(streamed(bound(count=20)), 3, 0, CPU)
    drawn(feed, 2)
    place = feed.place
    expected = drawn(feed, 7)
    feed.go_to(place)
    assert feed.place.used == 6
    assert drawn(feed, 7) == expected


def test_a_mistake_in_rows_read_ahead_is_raised_where_they_are_drawn() -> None:
    def broken(rows: Tensor) -> Tensor:
        if (rows == 30).any():
            raise DataError("b/3.png cannot be read as an image")
        return rows

    data = streamed(bound())
    assert isinstance(data.columns[0], Stream)
    feed = Feed(replace(data, columns=(replace(data.columns[0], steps=(broken,)), data.columns[1])), 2, 0, CPU)
    with pytest.raises(DataError, match=r"3\.png"):
        drawn(feed, 5)


def test_a_closed_step_is_refused_more_rows_than_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed(streamed(bound("data(x,c)", 1000)), 3, 0, CPU)
    assert len(feed.whole()["x"]) == 1000
    monkeypatch.setattr(minibatches, "room", lambda device: 3999)
    with pytest.raises(DataError) as caught:
        feed.whole()
    assert "all rows of `data(x,c)` at once, and 1,000 of them" in str(caught.value)
    assert "estimate=gradient" in str(caught.value)
    assert len(Feed(bound(count=1000), 3, 0, CPU).whole()["x"]) == 1000, "what is in memory already is taken"


def test_there_is_room_on_this_machine() -> None:
    assert 2**28 < minibatches.room(CPU) <= sys.maxsize


def test_a_gpu_holds_what_leaves_it_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes in memory count as bytes; what is read where it is drawn stays where it is."""
    meta = torch.device("meta")
    monkeypatch.setattr(minibatches, "room", lambda device: 4 * 1000)
    large, small = torch.zeros(300), torch.zeros(150)
    images = from_bytes(torch.zeros(400, dtype=torch.uint8))
    read = Stream(Slow(torch.zeros(5)), (5,), torch.float32)
    found = minibatches.placed((large, small, images, read), meta)
    assert [column.device.type for column in found] == ["cpu", "meta", "meta", "cpu"]
    assert found[0] is large
    assert minibatches.placed((small, images), CPU) == (small, images)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_batches_are_on_the_gpu_wherever_the_rows_lie() -> None:
    device = torch.device("cuda")
    expected = drawn(Feed(bound(count=23), 4, 7, CPU), 9)
    for data in (bound(count=23), streamed(bound(count=23))):
        feed = Feed(data, 4, 7, device)
        batches = [feed.draw() for _ in range(9)]
        assert all(rows.device.type == "cuda" for batch in batches for rows in batch.values())
        assert [batch["c"].tolist() for batch in batches] == expected
        assert all(torch.equal(batch["x"], batch["c"].float() * 10) for batch in batches)
