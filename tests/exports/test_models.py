"""Samplers of the models' laws, exported, loaded again and run: one law of each kind, `--every-law` all of them."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import pytest
import torch

import jointkl
from jointkl.derivation.resolve import Query, resolve, samplable
from jointkl.exports.formats import FORMATS
from jointkl.exports.sampler import Sampler, tracing
from jointkl.program import Program
from jointkl.semantics.model import Distribution, Evidence, Model

MODELS = sorted((Path(__file__).resolve().parents[2] / "models").glob("*.jkl"))


def kind(model: Model, query: Query) -> tuple[object, ...]:
    """What a sampler of the query is made of: how its factors are drawn, whether it mixes, what it is given."""
    bodies = [(model.laws[f.law].body, f.old) for _, path in query.branches for f in path]
    factors = {(b.family if isinstance(b, Distribution) else type(b).__name__, old) for b, old in bodies}
    return frozenset(factors), len(query.branches) > 1, query.label is None, bool(query.givens)


def laws() -> list[tuple[Path, str, bool]]:
    """Every law that can be drawn, and whether it is the first of its kind."""
    found: list[tuple[Path, str, bool]] = []
    seen: set[object] = set()
    for path in MODELS:
        derivation = jointkl.derive(jointkl.load(path))
        model = derivation.model
        texts = [law.text for law in model.laws.values() if not isinstance(law.body, Evidence)]
        queries = [*samplable(derivation.facts), *(resolve(derivation.facts, text) for text in texts)]
        for query in {q.text: q for q in queries}.values():
            of = kind(model, query)
            found.append((path, query.text, of not in seen))
            seen.add(of)
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "law" in metafunc.fixturenames:
        every = metafunc.config.getoption("--every-law")
        cases = [(path, law) for path, law, first in laws() if first or every]
        metafunc.parametrize(("path", "law"), cases, ids=[f"{path.stem}-{law}" for path, law in cases])


@cache
def program(path: Path) -> Program:
    torch.manual_seed(0)
    return jointkl.compile(path)


@pytest.mark.slow
def test_a_law_of_each_kind_survives_the_file(path: Path, law: str) -> None:
    """Read back at sizes that it was not traced at, it gives what the module gives; and draws what it says."""
    torch.manual_seed(1)
    sampler = Sampler(program(path), law)
    assert sampler.determined
    content = FORMATS[".pt2"].write(sampler, {})
    loaded = torch.export.load(io.BytesIO(content)).module()
    for rows in (1, 7):
        arguments = sampler.example(rows)
        with tracing():
            expected = sampler(**arguments)
        found = loaded(**arguments)
        assert list(found) == list(expected) == list(resolve(program(path).derivation.facts, law).head)
        for v in found:
            assert torch.equal(found[v], expected[v])
            assert found[v].shape == (rows, *program(path).model.space(v).shape)
            assert not found[v].requires_grad
