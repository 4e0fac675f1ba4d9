"""A law's ancestral draw as a `torch.nn.Module` of what it is given and its noise: what `torch.export` traces."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import Parameter, Signature
from itertools import accumulate
from typing import Any, Literal

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from jointkl.density import law_at, verify_one_law
from jointkl.derivation.resolve import Query, resolve
from jointkl.derivation.shifts import keys
from jointkl.exports import errors, inside, noise
from jointkl.exports.inputs import DRAWN, ROWS, Input, Need, form, named
from jointkl.program import Program
from jointkl.semantics.model import Constant, Distribution, Evidence, Factor, Law, Model

Supply = Literal["given", "drawn"]
"""Is the noise an input of the sampler, or drawn inside it by torch's generator?"""

SUPPLIES: tuple[Supply, ...] = ("given", "drawn")

PROBED = 3
"""Rows of the pass that finds out what noise there is. One row would broadcast."""


class Sampler(nn.Module):
    """Ancestral samples of a law: variable -> (N, *shape), of a global its one value; networks in evaluation mode, no
    gradients, on the CPU.

    Its arguments are `inputs` by name, (N, *shape) each. `inside` are the laws, with their families, that are no simple
    function of noise: torch's generator draws them. `determined`: the arguments alone decide the samples. The
    parameters are copies, of what the law needs alone. Raises `DataError` for a law that cannot be drawn.
    """

    def __init__(self, program: Program, text: str, supply: Supply = "given") -> None:
        super().__init__()
        self.query = resolve(program.derivation.facts, text)
        self.model = program.model
        self.emitted: Any = copy.deepcopy(program.emitted).cpu().eval().requires_grad_(False)
        dtype: torch.dtype = self.emitted.anchor.dtype
        _verify_draws(self.model, self.query)
        variables = named(_variables(self.model, self.query), dtype)
        probe = Draws(self.model, self.emitted, PROBED, {i.need: i.example(PROBED) for i in variables})
        with tracing(), Touched() as touched:
            made = probe.all(self.query)
        _keep(self.emitted, touched.seen)
        inputs = named(probe.values, dtype) if supply == "given" else variables
        self.inputs = inputs if not all(i.need.once for i in inputs) else (*inputs, *named((ROWS,), dtype))
        self.inside: Mapping[str, str] = dict(probe.inside)
        self.determined = supply == "given" and not self.inside
        once = {v: self.model.variable(v).is_global for v in made}
        self.outputs = {v: form(tuple(t.shape if once[v] else t.shape[1:]), t.dtype, once[v]) for v, t in made.items()}
        self.forward = _called(self._drawn, [i.name for i in self.inputs])

    def _drawn(self, **given: Tensor) -> dict[str, Tensor]:
        rows = given[self.counting.name].shape[0]
        return Draws(self.model, self.emitted, rows, {i.need: given[i.name] for i in self.inputs}).all(self.query)

    @property
    def counting(self) -> Input:
        """The first argument that has a row for each sample."""
        return next(i for i in self.inputs if not i.need.once)

    def example(self, rows: int) -> dict[str, Tensor]:
        """Arguments that it may be called with, random ones."""
        return {i.name: i.example(rows) for i in self.inputs}


def _called(function: Callable[..., dict[str, Tensor]], names: Iterable[str]) -> Callable[..., dict[str, Tensor]]:
    """The function with these arguments in its signature, from which `torch.export` takes the names of a graph's."""

    def forward(**given: Tensor) -> dict[str, Tensor]:
        return function(**given)

    forward.__signature__ = Signature([Parameter(name, Parameter.KEYWORD_ONLY) for name in names])
    return forward


@contextmanager
def tracing() -> Iterator[None]:
    """Nothing is checked by value, and gradients stay as they are: a graph holds no such choice and no such switch."""
    with dist.validation_enabled(False), torch.enable_grad():
        yield


@dataclass(slots=True)
class Draws:
    """One pass over a law's branches. Noise that is not among the `values` is drawn, and then it is.

    A variable that several branches draw from the same kind of noise takes the same in all: each row keeps the values
    of one of them.
    """

    model: Model
    emitted: Any
    rows: int
    values: dict[Need, Tensor]
    inside: dict[str, str] = field(default_factory=dict[str, str])

    def all(self, query: Query) -> dict[str, Tensor]:
        """The variables of the query's head."""
        branches = [self._path(query, path) for _, path in query.branches]
        if len(branches) == 1:
            return {v: branches[0][v] for v in query.head}
        shared = [v for v in query.head if self.model.variable(v).is_global]
        for v in shared:
            verify_one_law(query, v)
        which = self._branch(query)
        rows = torch.arange(self.rows, device=which.device)
        return {v: branches[0][v] if v in shared
                else self._places(query, v)[which] if query.label and v == query.label[0]
                else torch.stack([made[v] for made in branches])[which, rows] for v in query.head}  # fmt: skip

    def _branch(self, query: Query) -> Tensor:
        """Which branch each row is of, (N,): the inverse of their weights' distribution function."""
        u = self._noise(f"{query.label[0] if query.label else 'branch'}.noise", "uniform", ())
        below = [float(w) for w in accumulate(w for w, _ in query.branches)][:-1]
        return (u.unsqueeze(-1) >= u.new_tensor(below)).sum(-1)

    def _places(self, query: Query, v: str) -> Tensor:
        """The place of the label's value on each branch."""
        assert query.label is not None
        return torch.tensor([self.model.space(v).values.index(k) for k in query.label[1]])

    def _path(self, query: Query, path: Iterable[Factor]) -> dict[str, Tensor]:
        made = {need.key: self.values[need] for need in _given(self.model, query)}
        for f in path:
            law = self.model.laws[f.law]
            if isinstance(law.body, Evidence):
                made |= {v: self.values[need].clone() for v, need in _evidence(self.model, f).items()}
            else:
                made[f.outputs[0]] = self._value(law, f, made)
        return made

    def _value(self, law: Law, f: Factor, made: Mapping[str, Tensor]) -> Tensor:
        (v,) = f.outputs
        space = self.model.space(v)
        d = law_at(self.model, self.emitted, f, made)
        if isinstance(d, dist.Delta):
            value = d.v.expand(*self._rows(v), *space.shape)
        elif found := noise.needed(d, space.shape):
            value = noise.drawn(d, self._noise(v if _standard(law) else f"{v}.noise", *found, v))
        else:
            value = self._inside(law, d.expand(self._rows(v)))
        return value.long() if space.kind == "finite" else value

    def _rows(self, v: str) -> tuple[int, ...]:
        return () if self.model.variable(v).is_global else (self.rows,)

    def _noise(self, key: str, kind: noise.Noise, shape: noise.Shape, v: str | None = None) -> Tensor:
        """Noise of a variable, or of the choice of a branch."""
        once = v is not None and self.model.variable(v).is_global
        need = Need(key, "noise", shape, noise=kind, once=once)
        if need not in self.values:
            anchor = self.emitted.anchor
            sizes = shape if once else (self.rows, *shape)
            self.values[need] = DRAWN[kind](sizes, dtype=anchor.dtype, device=anchor.device)
        return self.values[need]

    def _inside(self, law: Law, d: Any) -> Tensor:
        family = law.body.family if isinstance(law.body, Distribution) else type(d).__name__
        if why := inside.UNTRACEABLE.get(family):
            raise errors.untraceable(law.text, family, why)
        self.inside[law.text] = family
        return inside.drawn(d)


def _given(model: Model, query: Query) -> tuple[Need, ...]:
    spaces = {v: model.space(v) for v in query.givens}
    return tuple(Need(v, "given", s.shape, s, once=model.variable(v).is_global) for v, s in spaces.items())


def _evidence(model: Model, f: Factor) -> dict[str, Need]:
    """What a factor takes from evidence, by variable. Another draw from a source, `x'`, is rows of its own."""
    spaces = {v: model.space(v) for v in f.outputs}
    return {v: Need(key, "evidence", spaces[v].shape, spaces[v]) for v, key in keys(model, f).items()}


def _variables(model: Model, query: Query) -> tuple[Need, ...]:
    """What the query is given, and the evidence on its paths."""
    found = list(_given(model, query))
    for _, path in query.branches:
        for f in path:
            if isinstance(model.laws[f.law].body, Evidence):
                found += _evidence(model, f).values()
    return tuple(dict.fromkeys(found))


def _verify_draws(model: Model, query: Query) -> None:
    bodies = [model.laws[f.law].body for _, path in query.branches for f in path]
    if len(query.branches) == 1 and all(isinstance(body, Evidence) for body in bodies):
        raise errors.all_evidence(query.text)


def _standard(law: Law) -> bool:
    """Is the law's own value standard noise?"""
    zero, one = Constant(0.0), Constant(1.0)
    standards = (
        Distribution("Normal", (("loc", zero), ("scale", one))),
        Distribution("Uniform", (("low", zero), ("high", one))),
    )
    return law.body in standards


class Touched(TorchFunctionMode):
    """Knows every tensor that an operation took meanwhile, by `id`."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.update(id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        return func(*args, **(kwargs or {}))


def _keep(emitted: nn.Module, seen: set[int]) -> None:
    """Take away the networks and parameters of which nothing was touched."""
    for name, net in list(emitted.named_children()):
        if not any(id(tensor) in seen for tensor in (*net.parameters(), *net.buffers())):
            delattr(emitted, name)
    for name, tensor in [*emitted.named_parameters(recurse=False), *emitted.named_buffers(recurse=False)]:
        if id(tensor) not in seen and name != "anchor":
            delattr(emitted, name)
