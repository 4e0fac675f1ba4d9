"""What a program of a drawn spec draws and evaluates: every joint has samples, a Pyro program and its density."""

from __future__ import annotations

import inspect

import pyro
import pytest
import torch
from hypothesis import event, given
from hypothesis import strategies as st

from jointkl.program import Program
from tests.properties.compiled import compiled, examples
from tests.properties.drawn import ANY, ratios, weighted
from tests.properties.exact import Exact, grid, place
from tests.properties.expectation import data
from tests.properties.specs import Distribution, Joint, Law, Spec

SPECS = st.one_of(ANY, ratios(), weighted())


def joints(spec: Spec) -> list[Law]:
    return [law for law in spec.laws if isinstance(law.body, Joint) and not law.givens]


def evidence(spec: Spec, program: Program) -> dict[str, torch.Tensor]:
    """Every value of the data, under the batch's keys and the variables' own names, copies too."""
    batch, _ = data(spec, program)
    named = {v: batch[k] for law in spec.evidence for v in law.outputs
             if (k := program.model.batch_key(law.key, v)) in batch}  # fmt: skip
    return {**{f"{v}'": x for v, x in named.items()}, **named, **batch}


@pytest.mark.slow
@examples(30)
@given(SPECS)
def test_every_joint_is_drawn(spec: Spec) -> None:
    """Samples have one row for each datum, and values of their variables' spaces; so have those of Pyro's programs, a
    law's at any givens."""
    program = compiled(spec)
    batch = evidence(spec, program)
    rows = len(next(iter(batch.values())))
    for law in joints(spec):
        verify_values(spec, program.sample(law.key, rows, batch if spec.evidence else None), rows)
    for key in program.emitted.programs:
        drawn = program.pyro(key)
        named = inspect.signature(drawn).parameters
        arguments: dict = {k: v for k, v in batch.items() if k in named}
        for v in [k for k, a in named.items() if a.default is a.empty and k not in arguments]:
            arguments[v] = grid(spec, (v,))[0][torch.randint(spec.var(v).size, (rows,))]
        if "size" in named:
            arguments["size"] = rows
        trace = pyro.poutine.trace(drawn).get_trace(**arguments)
        verify_values(spec, trace.nodes["_RETURN"]["value"], rows)
        assert trace.log_prob_sum().isfinite()


def verify_values(spec: Spec, drawn: dict[str, torch.Tensor], rows: int) -> None:
    for v, value in drawn.items():
        var = spec.var(v)
        assert len(value) == rows, f"{v}: {list(value.shape)}"
        places = place(var, value)
        assert places.shape == (rows,)
        assert ((places >= 0) & (places < var.size)).all()


@examples(30)
@given(ANY)
def test_every_joint_is_evaluated(spec: Spec) -> None:
    """log density of a joint of families alone that hides nothing = the sum of its laws'."""
    program = compiled(spec)
    exact = Exact(spec, program)
    for law in joints(spec):
        assert isinstance(law.body, Joint)
        factors = [f for b in law.body.branches for f in b.factors]
        plain = all(isinstance(spec.law(f.law).body, Distribution) for f in factors)
        if len(law.body.branches) > 1 or {v for f in factors for v in f.outputs} != set(law.outputs) or not plain:
            continue
        event("evaluated")
        table = exact.law(law.key)
        batch = dict(zip(law.outputs, grid(spec, law.outputs), strict=True))
        found = program.log_prob(law.key, batch)
        torch.testing.assert_close(found, table.over(law.outputs).flatten())
