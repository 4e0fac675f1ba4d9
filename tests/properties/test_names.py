"""What a derivation calls a marginal is that law: by the table of the law, and each name for one law alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, note

import jointkl
from jointkl.derivation.derive import Derivation
from jointkl.derivation.expr import LogMarginal
from jointkl.exposition.formula import expectation
from jointkl.semantics.model import base
from tests.properties.compiled import compiled, examples
from tests.properties.drawn import ANY
from tests.properties.exact import Exact, Table
from tests.properties.specs import Factor, Spec


def marginals(derivation: Derivation) -> Iterator[LogMarginal]:
    """Every marginal that a step or a loss has, old ones left out."""
    entries = [e for entries in derivation.losses.values() for e in entries]
    terms = [t for s in derivation.steps for t in (*s.before, *s.after)] + [t for e in entries for t in e.terms]
    for t in terms:
        if isinstance(t.atom, LogMarginal) and not any(f.old for f in t.atom.factors):
            yield t.atom


def table(exact: Exact, m: LogMarginal) -> Table:
    """Of the product or mixture that the marginal holds."""
    parts = []
    for share, factors in m.branches:
        whole = exact.product(tuple(Factor(f.law, f.outputs, f.givens) for f in factors))
        part = whole.without(set(whole.names) - {*m.outputs, *m.givens})
        parts.append(part.logs.new_tensor(math.log(share)) + part.over((*m.outputs, *m.givens)))
    return Table((*m.outputs, *m.givens), torch.stack(parts).logsumexp(0))


@pytest.mark.slow
@examples(40)
@given(ANY)
def test_a_name_is_that_of_the_law(spec: Spec) -> None:
    program = compiled(spec)
    note(spec.text)
    exact = Exact(spec, program)
    known: dict[str, torch.Tensor] = {}
    for m in marginals(program.derivation):
        if not m.name or any(f.at for f in m.factors):
            continue
        found = table(exact, m).logs
        law = program.model.laws.get(m.name)
        if law is not None and all(v == base(v) for v in (*law.outputs, *law.givens)):
            own = exact.law(m.name).over((*law.outputs, *law.givens))
            torch.testing.assert_close(found, own.expand(found.shape))
        assert m.name not in known or torch.allclose(known[m.name], found)
        known[m.name] = found


HEAD = """
data(b) = evidence()
var b, z: real
var c: {0..2}
param m: real
param w: real[3]
p(c) = Categorical()
p(b | c) = Normal(w[c], 1)
p(z | b) = Normal(m*b, 1)
"""


@pytest.mark.parametrize(
    ("laws", "expected"),
    [
        (
            "n(b) = p(c) * p(b|c)\nk(b, z) = p(c) * p(z|b) * p(b|c)\nminimize CE(data(b) * p(z|b) || k(b,z))",
            "{-log n(b)}",
        ),
        (
            "k(b, z) = p(c) * p(b|c) * p(z|b)\nminimize CE(data(b) * p(z|b) || k(b,z))",
            "{-log p(b)}",
        ),
        (
            "p(b) = Normal(m, 1)\nk(b, z) = p(c) * p(b|c) * p(z|b)\n"
            "minimize CE(data(b) * p(z|b) || k(b,z)) + CE(data(b) || p(b))",
            "{-log ∫ p(c) p(b|c) dc}",
        ),
        (
            "n(b) = p(c) * p(b|c)\nminimize CE(data(b) * p(z|b) * data(b') || n(b') * p(z|b))",
            "{-log n(b')}",
        ),
        (
            "u(c) = Categorical([0.2, 0.3, 0.5])\nk(b) = u(c) * p(b|c)\ni(b) = p(c) * p(b|c)\n"
            "minimize CE(data(b) * p(z|b) || k(b) * p(z|b)) + CE(data(b) || i(b))",
            "{-log k(b)}",
        ),
    ],
    ids=["another order", "no law of that name", "its name is another law's", "a copy", "other factors"],
)
def test_which_name(laws: str, expected: str) -> None:
    derivation = jointkl.derive(jointkl.parse(HEAD + laws))
    found = {
        expectation(derivation.facts, e.of((t,)))
        for entries in derivation.losses.values()
        for e in entries
        for t in e.terms
        if isinstance(t.atom, LogMarginal)
    }
    assert any(formula.endswith(expected) for formula in found), found


def test_two_marginals_have_two_names() -> None:
    """Features of the source and of the target are not one law, though the same net makes both."""
    told = jointkl.derive(
        jointkl.parse("""
        source(x) = evidence()
        target(x) = evidence()
        var x, f: real
        var y: {0,1}
        net E = mlp(4)
        net D = mlp(4)
        p(f | x) = Delta(E(x))
        p(y | f) = Bernoulli(D(f))
        q(f, y) = { y=1: source(x) * p(f|x); y=0: target(x) * p(f|x) }
        p(f, y) = source(x) * p(f|x) * p(y|f)
        minimize KL(q(f,y) || p(f,y)) with game=minimax
    """)
    ).text()
    assert "log ∫ target(x) p(f|x) dx - log p(0|f) - log p(f)" in told
