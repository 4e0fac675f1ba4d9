"""A compiled finite instance with weights and evidence, and the reference beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from jointkl.audit import weights
from jointkl.audit.expectation import Batch, Draws, Rows, TooMany, drawn_by, estimated, expected, whole
from jointkl.program import Program
from jointkl.reference import goals, players
from jointkl.reference.laws import FiniteModel, points
from jointkl.reference.players import Player
from jointkl.reference.tables import Table
from jointkl.reference.values import Weights
from jointkl.semantics.model import Evidence, Factor, Hinge, Model, base

DATA_SIZE = 7
"""N, where the spec has globals."""

BATCHES, BATCH = 100, 1000
"""Where the module draws more than can be summed over: so many batches of so many rows."""

MANY = 2_500
"""Rows of a batch that a hinge is taken on."""

MOST_ROWS = 20_000
"""Rows of data that are one batch."""

SUSPECT, SUSPECT_OF_FEW = 3.3, 4.0
"""Standard errors beyond which ten times as many batches are asked: of many batches, of the few that a hinge is on."""


class Broken(Exception):
    """The module failed where it was run."""


def broken(error: Exception) -> Broken:
    """What failed, in a line."""
    first = str(error).splitlines()[0] if str(error) else ""
    return Broken(f"{type(error).__name__}: {first[:60]}")


def _run(compute: Callable[[], Any]) -> Any:
    try:
        return compute()
    except Exception as error:  # whatever is emitted, it must not fail
        raise broken(error) from error


@dataclass(slots=True)
class Case:
    """`counts` say for each law bound to a source how often each joint value of its columns occurs in the data; `rows`
    how many data a batch needs; `before` are the weights of the snapshot; `solved` the Free laws at their solutions."""

    program: Program
    counts: dict[str, Table]
    rows: int
    before: Weights
    solved: dict[str, Table] = field(default_factory=dict[str, Table])
    short: str = ""
    """The classifier that cannot be brought to its optimum here, if there is one."""

    @property
    def model(self) -> Model:
        return self.program.model

    @property
    def sources(self) -> tuple[Rows, ...]:
        return tuple(_rows(self.model, key, table) for key, table in self.counts.items())

    def world(self) -> FiniteModel:
        """The reference at the present weights."""
        shares = {key: t.times(1 / float(t.values.sum())) for key, t in self.counts.items()}
        return FiniteModel(self.model, weights.now(self.program), self.before, shares, dict(self.solved))

    def exact(self, player: Player) -> Tensor:
        """What a player minimises by the reference: the critics' own losses apart."""
        return goals.objective(self.world(), player, DATA_SIZE)

    def loss(self, name: str) -> Callable[[Batch], Tensor]:
        """A player's loss by the module, whose failures are `Broken`."""

        return lambda batch: _run(lambda: self.program.loss(name, batch))

    def solve(self, name: str, batch: Batch) -> Any:
        """A closed step by the module."""
        return _run(lambda: self.program.solve(name, batch))

    def expected(self, loss: Callable[[Batch], Tensor]) -> Tensor:
        return expected(loss, self.sources, self.rows)

    def at_once(self, loss: Callable[[Batch], Tensor]) -> Tensor:
        """A loss on the whole data as one batch: a hinge is on the mean. Raises `TooMany` where something is drawn."""
        draws = Draws()
        with drawn_by(draws):
            found = loss(self.data())
        if draws.calls or self.rows > 1:
            raise TooMany
        return found

    def data(self) -> Batch:
        """The whole data: every combination of the sources' rows as often as it occurs. Raises `TooMany`."""
        tables = list(self.counts.values())
        times = torch.ones(1, dtype=torch.float64)
        for t in tables:
            times = (times[:, None] * t.values.reshape(1, -1)).reshape(-1)
        if times.sum() > MOST_ROWS:
            raise TooMany
        return {k: v.repeat_interleave(times.long(), 0) for k, v in whole(self.sources, MOST_ROWS).items()}

    def compared(
        self, loss: Callable[[Batch], Tensor], own: Sequence[Tensor], exact: Tensor, least: float = 1e-3
    ) -> tuple[float, bool]:
        """How far the expected gradient of a loss is from the exact one: relative to its size, or, where the module
        draws too much to sum over, in standard errors (then True)."""
        hinged = any(isinstance(t, Hinge) for g in self.model.goals for t in g.terms)
        try:
            value = self.at_once(loss) if hinged else self.expected(loss)
            return apart(gradient(value, own), exact, least), False
        except TooMany:
            pass
        worst = 0.0
        rows = MANY if hinged else BATCH
        for k, batches in enumerate((BATCHES, 10 * BATCHES)):
            found = estimated(
                lambda batch: gradient(loss(batch), own), self.sources, batches * BATCH // rows, rows, seed=k
            )
            worst = found.deviation(exact)
            if worst < (SUSPECT_OF_FEW if hinged else SUSPECT):
                break
        return worst, True

    def parameters(self, player: Player) -> list[nn.Parameter]:
        """What a player trains, as the module holds it."""
        emitted = self.program.emitted
        found: list[nn.Parameter] = []
        for m in sorted(player.members):
            if m in emitted.nets:
                found += list(getattr(emitted, emitted.nets[m]).parameters())
            elif m in emitted.params:
                found.append(weights.raw(self.program, emitted.params[m]))
        return found

    def players(self) -> Iterator[tuple[str, Player]]:
        """Every player of the language, by the module's name for it; "" for one that the module does not know."""
        names = {frozenset(self._spelt(m) for m in held): name for name, held in self.program.emitted.players.items()}
        for p in players.players(self.model):
            yield names.get(p.members, ""), p

    def _spelt(self, member: str) -> str:
        emitted = self.program.emitted
        known = {attribute: name for table in (emitted.nets, emitted.params) for name, attribute in table.items()}
        return known.get(member, member)

    def strangers(self) -> set[str]:
        """The module's players whom the language does not know."""
        return set(self.program.emitted.players) - {name for name, _ in self.players()}


def made(program: Program, trunks: Set[str], seed: int) -> Case:
    """A program with weights of no special value, as a case. Raises `NotFinite`."""
    weights.scatter(program, trunks, seed)
    program.snapshot()
    model = program.model
    if any(v.is_global for v in model.variables.values()):
        program.data_size = DATA_SIZE
    return Case(program, counts(model, seed), batch_rows(model), weights.held(program))


def counts(model: Model, seed: int) -> dict[str, Table]:
    """How often each joint value occurs: one to four times."""
    chance = torch.Generator().manual_seed(1000 + seed)
    found: dict[str, Table] = {}
    for law in model.evidence:
        shape = [len(points(model.space(v))) for v in law.outputs]
        found[law.key] = Table(law.outputs, torch.randint(1, 5, shape, generator=chance).to(torch.float64))
    return found


def _rows(model: Model, key: str, table: Table) -> Rows:
    places = torch.cartesian_prod(*(torch.arange(n) for n in table.values.shape)).reshape(-1, len(table.names))
    columns = {
        batch_key(model, key, v): torch.stack(points(model.space(v)))[places[:, i]] for i, v in enumerate(table.names)
    }
    return Rows(columns, table.values.reshape(-1) / table.values.sum())


def batch_key(model: Model, law: str, v: str) -> str:
    return model.batch_key(law, base(v)) + v[len(base(v)) :]


def batch_rows(model: Model) -> int:
    """As many data as there are independent draws of one source on a path, or copies of its rows."""
    most = 1
    for goal in model.goals:
        for d in players.divergences(goal):
            for side in (d.left, d.right):
                for _, branch in goals.paths(model, side):
                    most = max(most, _draws(model, branch.factors))
    return most


def _draws(model: Model, factors: Iterable[Factor]) -> int:
    taken: dict[str, int] = {}
    most = 1
    for f in factors:
        law = model.laws[f.law]
        if isinstance(law.body, Evidence):
            rows = law.body.rows
            taken[rows] = taken.get(rows, 0) + 1
            pairs = zip(f.outputs, law.outputs, strict=True)
            primes = max(len(v) - len(base(v)) - (len(u) - len(base(u))) for v, u in pairs)
            most = max(most, taken[rows], primes + 1)
    return most


# --- comparing


def gradient(value: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Flat; zero where nothing depends."""
    if not value.requires_grad or not parameters:
        return torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64)
    found = torch.autograd.grad(value, list(parameters), allow_unused=True)
    pairs = zip(parameters, found, strict=True)
    return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in pairs])


def apart(a: Tensor, b: Tensor, least: float = 1e-3) -> float:
    """The largest difference relative to the largest number of the two; infinite where one is not finite."""
    if not a.numel():
        return 0.0
    size = max(a.abs().max().item(), b.abs().max().item(), least)
    error = (a - b).abs().max().item() / size
    return error if error == error else float("inf")
