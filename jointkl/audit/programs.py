"""The Pyro programs of a finite instance against the tables of its laws and joints: what they draw, the log density of
a trace, and how a plate is scaled beside globals."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyro
import torch
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from jointkl.audit.case import Case, broken
from jointkl.audit.expectation import Batch
from jointkl.audit.findings import Finding
from jointkl.audit.sampling import (
    Query,
    assignments,
    draws_evidence,
    factors,
    frequencies,
    judged,
    log_factors,
    product,
    queried,
    shared,
    unravelled,
)
from jointkl.audit.written import compared
from jointkl.diagnostics import DataError
from jointkl.emission.names import legal
from jointkl.reference.goals import Undefined
from jointkl.reference.laws import NotFinite, points
from jointkl.reference.tables import TooLarge
from jointkl.semantics.model import Distribution, Evidence, Law, base

MOST_COPIES = 4
"""Of so many copies of a column the arguments are known."""

MOST_VALUES = 8
"""So many values of the globals are tried."""


def programs(case: Case, seed: int = 0) -> Iterator[Finding]:
    """The findings on the Pyro program of every law and joint that has one."""
    pyro.clear_param_store()
    for law in case.model.laws.values():
        if isinstance(law.body, Evidence):
            continue
        try:
            query = queried(case, law)
            program = case.program.pyro(law.key)
        except (NotFinite, TooLarge, DataError):
            continue
        yield judged(query, "Pyro sites", frequencies, case, by_program(case, program), seed, deviates=True)
        if product(case.model, law) is not None:
            judge = scaled_density if shared(case.model, law) else density
            yield judged(query, "Pyro density", judge, case, program)


Program = Callable[..., dict[str, Tensor]]


def called(case: Case, law: Law, program: Program, n: int, value: Callable[[str, str, int], Tensor], givens: Batch):
    """The arguments of a program: its givens, then evidence by the name of its key in a batch. `value(source, column,
    copy)` is that evidence. Raises `Undefined`."""
    keys = {
        legal(key + "'" * k): (source.key, v, k)
        for source in case.model.evidence
        for v in source.outputs
        for k in range(MOST_COPIES)
        for key in [case.model.batch_key(source.key, base(v)) + v[len(base(v)) :]]
    }
    arguments: dict[str, Any] = {}
    rest = list(law.givens)
    for name, parameter in inspect.signature(program).parameters.items():
        if parameter.annotation == "int":
            arguments[name] = n
        elif parameter.annotation != "Tensor":
            arguments[name] = None
        elif rest:
            arguments[name] = givens[rest.pop(0)]
        else:
            known = keys.get(name) or keys.get(re.sub(r"_\d*$", "", name))
            if known is None:
                raise Undefined(f"the argument {name} is no evidence")
            arguments[name] = value(*known)
    return arguments


def by_program(case: Case, program: Program):
    """Draws a program: each copy of a source has rows of its own."""

    def drawn(query: Query, n: int, givens: Batch, chance: torch.Generator) -> Batch:
        model = case.model
        rows: dict[tuple[str, int], Tensor] = {}

        def value(source: str, column: str, copy: int) -> Tensor:
            table = case.counts[source].values
            place = (source, copy)
            if place not in rows:
                rows[place] = torch.multinomial(table.reshape(-1), n, replacement=True, generator=chance)
            at = unravelled(rows[place], table.shape)[case.counts[source].names.index(column)]
            return torch.stack(points(model.space(column)))[at]

        arguments = called(case, query.law, program, n, value, givens)
        if case.rows > 1 and draws_evidence(model, query.law) and len(rows) < _draws(case, query.law):
            raise Undefined("several draws of one source, one argument")
        with torch.no_grad():
            found = program(**arguments)
        return {v: _as_place(case, v, x) for v, x in found.items()}

    return drawn


def _draws(case: Case, law: Law) -> int:
    """How many factors of evidence a joint has, at most one for each source and branch counted once."""
    drawn = [(case.model.laws[f.law].body, f.outputs) for f in factors(case.model, law)]
    return len({(body.rows, outputs) for body, outputs in drawn if isinstance(body, Evidence)})


def _as_place(case: Case, v: str, x: Tensor) -> Tensor:
    return x.long() if case.model.space(v).kind == "finite" else x


# --- densities of traces


def density(query: Query, case: Case, program: Program) -> float:
    """Every joint value as a row: the sites' log densities are those of the factors that are no evidence."""
    rows = list(assignments(case.model, query.names))
    trace, exact = _conditioned(query, case, program, rows)
    found = torch.zeros(len(rows), dtype=torch.float64)
    for site in _sites(trace):
        found = found + site["unscaled_log_prob"].detach()
    return compared(found, sum(exact.values(), torch.zeros(len(rows), dtype=torch.float64)))


def scaled_density(query: Query, case: Case, program: Program) -> float:
    """A joint that draws globals stands for all N data: their density counts once, that of the others N / n times."""
    model = case.model
    own = shared(model, query.law)
    local = [v for v in query.names if v not in own]
    worst = 0.0
    for fixed in itertools.islice(assignments(model, own), MOST_VALUES):
        rows = [{**fixed, **row} for row in assignments(model, local)]
        trace, logs = _conditioned(query, case, program, rows)
        drawn = any(model.variable(f.outputs[0]).is_global for f in logs)
        scale = (case.program.data_size or len(rows)) / len(rows) if drawn else 1.0
        exact = torch.zeros((), dtype=torch.float64)
        for f, log in logs.items():
            exact = exact + (log[0] if model.variable(f.outputs[0]).is_global else scale * log.sum())
        worst = max(worst, compared(torch.as_tensor(trace.log_prob_sum()).detach(), exact))
    return worst


def _conditioned(query: Query, case: Case, program: Program, rows: Sequence[Batch]):
    model, law = case.model, query.law
    parts = [f for f in product(model, law) or () if not isinstance(model.laws[f.law].body, Evidence)]
    own = shared(model, law)
    values = {v: rows[0][v] if v in own else torch.stack([r[v] for r in rows]) for v in query.names}
    sites = {f.outputs[0]: _as_drawn(case, f.law, values[f.outputs[0]]) for f in parts}

    def value(source: str, column: str, copy: int) -> Tensor:
        return values[column + "'" * copy]

    try:
        arguments = called(case, law, program, len(rows), value, values)
        conditioned = pyro.poutine.condition(program, data=sites)
        with torch.no_grad():
            trace = pyro.poutine.trace(conditioned).get_trace(**arguments)
            trace.compute_log_prob()
    except Undefined:
        raise
    except Exception as error:  # whatever is emitted, it must not fail
        raise broken(error) from error
    return trace, dict(zip(parts, log_factors(case, parts, rows), strict=True))


def _as_drawn(case: Case, law: str, x: Tensor) -> Tensor:
    body = case.model.laws[law].body
    return x.to(torch.float64) if isinstance(body, Distribution) and body.family == "Bernoulli" else x


def _sites(trace: Any) -> Iterator[dict[str, Any]]:
    for site in trace.nodes.values():
        if site["type"] == "sample" and not site_is_subsample(site):
            yield site
