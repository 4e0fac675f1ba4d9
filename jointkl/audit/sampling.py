"""`Program.log_prob` and `Program.sample` of a finite instance against the tables of its laws and joints.

Densities are held against the table exactly; of samples the frequency of each cell, in standard errors. A global is one
value in a call, so that a call is one draw of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jointkl.audit.case import Broken, Case, broken
from jointkl.audit.expectation import Batch
from jointkl.audit.findings import DEVIATION, Finding
from jointkl.audit.written import compared
from jointkl.diagnostics import DataError
from jointkl.reference.goals import Undefined
from jointkl.reference.laws import NotFinite, points
from jointkl.reference.tables import Table, TooLarge
from jointkl.semantics.model import Distribution, Evidence, Factor, Joint, Law, Model, base

ROWS = 20_000
"""Rows of a sample; ten times as many where a cell is more than `DEVIATION` standard errors off."""

CALLS, CALLED = 150, 20
"""Where globals are drawn: so many calls of so many rows."""

RARE = 50
"""Counts of cells that are to be met less often are not normal."""

MOST_CELLS = 4096


@dataclass(frozen=True, slots=True)
class Query:
    """A law or joint with its table over its outputs and givens, in this order."""

    law: Law
    names: tuple[str, ...]
    table: Tensor

    @property
    def text(self) -> str:
        return self.law.text


Drawer = Callable[[Query, int, Batch, torch.Generator], Batch]
"""So many rows of a law at its givens: variable -> values."""


def sampling(case: Case, seed: int = 0) -> Iterator[Finding]:
    """The findings on every law and joint that has a table."""
    for law in case.model.laws.values():
        if isinstance(law.body, Evidence):
            continue
        try:
            query = queried(case, law)
        except (NotFinite, TooLarge):
            continue
        yield judged(query, "log_prob", log_probs, case)
        yield judged(query, "samples", frequencies, case, by_sample(case), seed, deviates=True)


def queried(case: Case, law: Law) -> Query:
    names = (*law.outputs, *law.givens)
    sizes = [len(points(case.model.space(v))) for v in names]
    if math.prod(sizes) > MOST_CELLS:
        raise TooLarge
    with torch.no_grad():
        table = case.world().law(law).over(names).expand(sizes)
    return Query(law, names, table)


def judged(query: Query, what: str, judge: Callable[..., float], *arguments: object, deviates: bool = False) -> Finding:
    try:
        return Finding(query.text, what, judge(query, *arguments), deviates=deviates)
    except (Undefined, NotFinite) as reason:
        return Finding(query.text, what, None, str(reason))
    except DataError as error:
        return Finding(query.text, what, None, f"refused: {error.args[0]}")
    except Broken as error:
        return Finding(query.text, f"{what}: {error}", math.inf)


# --- what a law is made of


def factors(model: Model, law: Law) -> Iterator[Factor]:
    """All factors, those of joints inside too."""
    for b in law.body.branches if isinstance(law.body, Joint) else ():
        for f in b.factors:
            yield f
            yield from factors(model, model.laws[f.law])


def draws_evidence(model: Model, law: Law) -> bool:
    return any(isinstance(model.laws[f.law].body, Evidence) for f in factors(model, law))


def shared(model: Model, law: Law) -> list[str]:
    """The globals that a law shows."""
    return [v for v in (*law.outputs, *law.givens) if model.variable(v).is_global]


def verify_shown(model: Model, law: Law) -> None:
    """Hidden globals have no table for a datum. Raises `Undefined`."""
    hidden = {base(v) for f in factors(model, law) for v in f.variables} - {base(v) for v in law.outputs + law.givens}
    if any(v in model.variables and model.variable(v).is_global for v in hidden):
        raise Undefined("a hidden global")


def product(model: Model, law: Law) -> tuple[Factor, ...] | None:
    """The factors of a law by itself, or of a plain product of laws, all of whose variables are shown; else None."""
    if isinstance(law.body, Distribution):
        return (Factor(law.key, law.outputs, law.givens),)
    if not isinstance(law.body, Joint) or law.body.label is not None:
        return None
    found = law.body.branches[0].factors
    plain = all(isinstance(model.laws[f.law].body, Distribution | Evidence) for f in found)
    return found if plain and {v for f in found for v in f.outputs} <= set(law.outputs) else None


# --- log_prob


def log_probs(query: Query, case: Case) -> float:
    """Every joint value as a row; with globals a batch for each of theirs, whose own density counts once for it all."""
    model, law = case.model, query.law
    verify_shown(model, law)
    own = shared(model, law)
    local = [v for v in query.names if v not in own]
    parts = product(model, law)
    if own and parts is None:
        raise Undefined("globals in a density of several terms")
    worst = 0.0
    for fixed in assignments(model, own):
        rows = [{**fixed, **row} for row in assignments(model, local)]
        batch = {v: fixed[v] if v in own else torch.stack([r[v] for r in rows]) for v in query.names}
        try:
            found = case.program.log_prob(law.text, batch).detach()
        except DataError as error:
            if parts is not None and not any(isinstance(model.laws[f.law].body, Evidence) for f in parts):
                raise broken(error) from error
            raise
        except Exception as error:  # whatever is emitted, it must not fail
            raise broken(error) from error
        if own and parts is not None:
            exact = _with_globals(case, parts, rows, bool(local))
        else:
            exact = query.table.log().reshape(-1)
        worst = max(worst, compared(found, exact if local else exact.reshape(())))
    return worst


def _with_globals(case: Case, parts: Sequence[Factor], rows: Sequence[Batch], local: bool) -> Tensor:
    logs = log_factors(case, parts, rows)
    counts = [len(rows) if local and is_shared(case.model, f) else 1 for f in parts]
    return sum((log / n for log, n in zip(logs, counts, strict=True)), torch.zeros(len(rows), dtype=torch.float64))


def is_shared(model: Model, f: Factor) -> bool:
    return all(model.variable(v).is_global for v in f.variables)


def log_factors(case: Case, parts: Sequence[Factor], rows: Sequence[Batch]) -> list[Tensor]:
    """log P of each factor at each row, by its table."""
    world = case.world()
    found: list[Tensor] = []
    with torch.no_grad():
        for f in parts:
            t: Table = world.factor(f)
            cells = [tuple(int(place(case.model, v, row[v])) for v in t.names) for row in rows]
            found.append(torch.stack([t.values[c] for c in cells]).log())
    return found


def assignments(model: Model, names: Sequence[str]) -> Iterator[Batch]:
    """Every joint value, the last variable the fastest."""
    for values in itertools.product(*(points(model.space(v)) for v in names)):
        yield dict(zip(names, values, strict=True))


def place(model: Model, v: str, values: Tensor) -> Tensor:
    """Which of its values each is: of bits the first is the slowest."""
    space = model.space(v)
    if space.kind == "finite":
        return values.long()
    bits = values.reshape(*values.shape[: values.ndim - len(space.shape)], -1).long()
    return (bits * 2 ** torch.arange(bits.shape[-1] - 1, -1, -1)).sum(-1)


# --- frequencies


def by_sample(case: Case) -> Drawer:
    def drawn(query: Query, n: int, givens: Batch, chance: torch.Generator) -> Batch:
        batch = evidence(case, n, chance) if draws_evidence(case.model, query.law) else {}
        return case.program.sample(query.text, n, {**batch, **givens} or None)

    return drawn


def evidence(case: Case, n: int, chance: torch.Generator) -> Batch:
    """Rows of every source, drawn from its data."""
    found: Batch = {}
    for source in case.sources:
        places = torch.multinomial(source.shares, n, replacement=True, generator=chance)
        found |= {k: v[places] for k, v in source.columns.items()}
    return found


def frequencies(query: Query, case: Case, draw: Drawer, seed: int) -> float:
    """The farthest cell in standard errors; where that is too far, of ten times as many rows."""
    verify_shown(case.model, query.law)
    worst = 0.0
    for k, times in enumerate((1, 10)):
        chance = torch.Generator().manual_seed(seed + k)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed + 1000 + k)
            worst = _deviation(query, case, draw, times, chance)
        if worst <= DEVIATION:
            break
    return worst


def _deviation(query: Query, case: Case, draw: Drawer, times: int, chance: torch.Generator) -> float:
    """Rolled copies of a batch make neighbouring rows depend on each other, which widens what is to be expected."""
    law = query.law
    given = math.prod(query.table.shape[len(law.outputs) :])
    p = (query.table / given).reshape(-1)
    fixed = list(assignments(case.model, [v for v in law.givens if v in shared(case.model, law)]))
    if any(case.model.variable(v).is_global for v in law.outputs):
        calls = max(CALLS * times // len(fixed), 1)
        counts = sum((_tally(query, case, draw, CALLED, f, chance) for f in fixed for _ in range(calls)), 0 * p)
        return _by_call(query, shared(case.model, law), counts, p, calls * len(fixed))
    n = ROWS * times // len(fixed)
    wide = math.sqrt(2 * case.rows - 1) if draws_evidence(case.model, law) else 1.0
    counts = sum((_tally(query, case, draw, n, f, chance) for f in fixed), 0 * p)
    return deviation(counts, p, n * len(fixed), wide)


def _by_call(query: Query, own: Sequence[str], counts: Tensor, p: Tensor, calls: int) -> float:
    """The globals, of which each call is one draw, and all else given them, of which each row is one."""
    first = [query.names.index(v) for v in own]
    order = (*first, *(i for i in range(len(query.names)) if i not in first))
    sizes = [query.table.shape[i] for i in first]
    counts, p = (t.reshape(query.table.shape).permute(order).reshape(math.prod(sizes), -1) for t in (counts, p))
    worst = deviation(counts.sum(-1) / CALLED, p.sum(-1), calls)
    for c, q in zip(counts, p, strict=True):
        if float(c.sum()) > 0 and float(q.sum()) > 0:
            worst = max(worst, deviation(c, q / q.sum(), int(c.sum())))
    return worst


def _tally(query: Query, case: Case, draw: Drawer, n: int, fixed: Batch, chance: torch.Generator) -> Tensor:
    """How often each cell is met in n rows, whose givens run through all their values but for globals, `fixed`."""
    model, law = case.model, query.law
    own = shared(model, law)
    givens = dict(fixed)
    sizes = {v: size for v, size in zip(query.names, query.table.shape, strict=True) if v in law.givens}
    local = [v for v in law.givens if v not in own]
    for v, places in zip(local, unravelled(torch.arange(n), [sizes[v] for v in local]), strict=True):
        givens[v] = torch.stack(points(model.space(v)))[places]
    try:
        found = draw(query, n, givens, chance)
    except (DataError, Undefined):
        raise
    except Exception as error:  # whatever is emitted, it must not fail
        raise broken(error) from error
    cells: list[Tensor] = []
    for v in query.names:
        value = givens[v] if v in givens else found[v]
        expected = model.space(v).shape if v in own else (n, *model.space(v).shape)
        if value.shape != expected:
            raise Broken(f"{v} has shape {tuple(value.shape)}, not {tuple(expected)}")
        cells.append(place(model, v, value).expand(n))
    index = torch.zeros(n, dtype=torch.long)
    for cell, size in zip(cells, query.table.shape, strict=True):
        index = index * size + cell
    return torch.bincount(index, minlength=query.table.numel()).to(torch.float64)


def deviation(counts: Tensor, p: Tensor, n: int, wide: float = 1.0) -> float:
    """The farthest count from n p in its standard errors, sqrt(n p (1-p)), or, where few are to be met, on the root's
    scale, 2 (sqrt(c + 3/8) - sqrt(n p + 3/8)) (Anscombe 1948); infinite for what cannot be."""
    if bool((counts[p <= 0] > 0).any()):
        return math.inf
    mean = n * p
    normal = (counts - mean).abs() / (mean * (1 - p)).clamp(min=1.0).sqrt()
    root = 2 * ((counts + 0.375).sqrt() - (mean + 0.375).sqrt()).abs()
    return (torch.where(mean < RARE, root, normal) / wide).max().item()


def unravelled(places: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """The place in each dimension of a place among all, the last dimension the fastest."""
    found: list[Tensor] = []
    for size in reversed(sizes):
        found.insert(0, places % size)
        places = places // size
    return found
