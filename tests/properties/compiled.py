"""A drawn spec compiled: in double precision, at parameters of no special value, with its classifiers exact."""

from __future__ import annotations

from collections import Counter

import jointkl
import torch
from hypothesis import event, note, reject
from hypothesis import settings as hypothesis_settings

from jointkl.program import Program
from tests.properties.exact import Exact, Lookup, Table, grads, logits
from tests.properties.expectation import expected
from tests.properties.specs import Distribution, Goal, Spec

LEGITIMATE: dict[str, str] = {
    "E-CRITIC": "a density that data alone have is compared where nothing is classified",
    "E-CLASSIFIER": "the classifier does not see what differs between the branches",
    "E-DENSITY": "the optimum of the classifier does not replace every density that data alone have",
    "E-RESIDUAL": "the reference moves and its hidden variables are integrated out",
    "E-NOT-YET": "read and checked, and said to be left out",
}
"""Codes with which a drawn spec may be refused, and why."""

accepted: Counter[str] = Counter()


def examples(count: int) -> hypothesis_settings:
    """So many examples, the same in every run; more, and at random, under --hypothesis-profile=thorough."""
    known = hypothesis_settings.default
    assert known is not None
    factor = known.max_examples / 100
    return hypothesis_settings(max_examples=int(count * factor), deadline=None, derandomize=factor == 1)


def compiled(spec: Spec, text: str | None = None) -> Program:
    """The program of a spec; a legitimate refusal is not drawn."""
    shown = text or spec.text
    note(shown)
    try:
        made = jointkl.compile(jointkl.parse(shown)).double()
    except jointkl.JklError as error:
        codes = {r.code for r in error.reports}
        assert codes <= set(LEGITIMATE), f"refused:\n{error}\n{shown}"
        event(f"refused: {', '.join(sorted(codes))}")
        reject()
    event("accepted")
    scatter(made)
    return made


def scatter(program: Program, seed: int = 0) -> None:
    """Parameters of no special value, the same for the same names."""
    with torch.no_grad():
        for i, (name, w) in enumerate(sorted(program.emitted.named_parameters())):
            chance = torch.Generator().manual_seed(seed + sum(map(ord, name)) + 31 * i)
            w.copy_(0.8 * torch.randn(w.shape, generator=chance, dtype=w.dtype))
    program.snapshot()


def trains(spec: Spec, program: Program, player: str, goal: Goal) -> bool:
    """Whether a goal trains a player, by the language's words."""
    members = next(p.members for p in program.derivation.facts.players if p.name == player)
    if goal.over is not None:
        return any(m in goal.over for m in members)
    own = [c for c in spec.classifiers if _network(spec, c) in members]
    return not own or any(f.law in own for d in goal.terms for f in d.right)


def _network(spec: Spec, key: str) -> str:
    body = spec.law(key).body
    assert isinstance(body, Distribution)
    return body.source


def at_the_optimum(spec: Spec, program: Program, exact: Exact) -> None:
    """Every classifier becomes the best one at the present parameters, and is held there."""
    for key in spec.classifiers:
        goal = next(g for g in spec.goals if any(f.law == key for d in g.terms for f in d.right))
        mixture = next(d.left[0].law for d in goal.terms if any(f.law == key for f in d.right))
        table = exact.optimum(key, mixture)
        exact.fixed[key] = table
        net = _network(spec, key)
        name = program.emitted.nets[net]
        setattr(program.emitted, name, Lookup(spec, table.names[:-1], logits(spec, key, table)))


def verify_gradient(spec: Spec, program: Program, player: str, exact: Exact, **tolerance: float) -> None:
    """The gradient of a player's emitted loss, in expectation, is that of the goals that train it."""
    own = program.parameters_of(player)
    wanted = sum(exact.objective(g) for g in spec.goals if trains(spec, program, player, g))
    assert isinstance(wanted, torch.Tensor)
    found = grads(expected(spec, program, player), own)
    names = {id(w): n for n, w in program.emitted.named_parameters()}
    for w, a, b in zip(own, found, grads(wanted, own), strict=True):
        torch.testing.assert_close(
            a, b, rtol=1e-8, atol=1e-9,
            msg=lambda m, w=w: f"{player}: d/d{names[id(w)]}: {m}\n{program.derivation.text()}\n{spec.text}",
        )  # fmt: skip


__all__ = ["Table", "at_the_optimum", "compiled", "examples", "scatter", "verify_gradient"]
