"""What a run shows while it goes on, on the error stream: a bar in a terminal, else a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

Losses = Mapping[str, float]
Show = Callable[[int, Losses, float], None]
"""What is called with the round, the last losses and the rounds per second."""

LINES = 10
"""How many lines a run leaves where there is no terminal."""


@contextmanager
def shown(name: str, rounds: int, quiet: bool) -> Iterator[Show]:
    """A `Show` for a run of so many rounds."""
    console = Console(stderr=True)
    if quiet:
        yield lambda number, losses, rate: None
    elif console.is_terminal:
        with Bar(console) as bar:
            task = bar.add_task(name, total=rounds, losses="", rate="")

            def show(number: int, losses: Losses, rate: float) -> None:
                bar.update(task, completed=number, losses=text_of(losses), rate=f"{rate:.0f} steps/s", refresh=True)

            yield show
    else:
        yield _lines(name, rounds)


def text_of(losses: Losses) -> str:
    return "  ".join(f"{player} {loss:.4g}" for player, loss in losses.items())


class Bar(Progress):
    """The bar, and below it the losses, however many. Drawn only when told to: a thread of its own would take turns
    with the training."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        super().__init__(*columns, console=console, auto_refresh=False)

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield from (Text(task.fields["losses"], style="cyan") for task in self.tasks)


def _lines(name: str, rounds: int) -> Show:
    told = 0

    def show(number: int, losses: Losses, rate: float) -> None:
        nonlocal told
        if number * LINES // max(1, rounds) > told:
            told = number * LINES // max(1, rounds)
            left = timedelta(seconds=round((rounds - number) / rate)) if rate else "?"
            print(f"{name}  {number}/{rounds}  {text_of(losses)}  {rate:.0f} steps/s  {left} left", file=sys.stderr)

    return show
