"""A spec as it is written: the densities of its laws, and its goals over some data, against one datum at a time.

The finite instance has tables for laws, so that what goes wrong in a law's own expression escapes it. Here the spec
itself is compiled, with weights of no special value, and each law is read by the module for many data at once, by the
reference for each alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from jointkl.audit.case import DATA_SIZE, Broken, apart, batch_key, broken
from jointkl.audit.expectation import Batch, TooMany
from jointkl.audit.findings import Finding
from jointkl.diagnostics import DataError
from jointkl.program import Program
from jointkl.reference import families
from jointkl.reference.goals import Undefined
from jointkl.reference.laws import NotFinite
from jointkl.reference.values import Assignment, Layers, Weights, value
from jointkl.reference.written import Written
from jointkl.semantics.model import Dirac, Distribution, Factor, Joint, Law, Model, Net, base

ROWS = (1, 2, 20)
"""Sizes of the batches."""

COPIES = 3
"""The size of a dimension in front of the batch's."""

STEPPED = 60
"""Rows of a closed step, which fits as many numbers as there are for each label."""


def laws(program: Program, seed: int = 0) -> Iterator[Finding]:
    """The findings on the densities of a program in double precision, whose weights are set anew."""
    with torch.random.fork_rng([]):
        yield from densities(made(program, seed))


def made(program: Program, seed: int) -> Spec:
    """A program with weights and data of no special value."""
    torch.manual_seed(seed)
    scatter(program)
    return Spec(program, data(program.model, STEPPED))


def scatter(program: Program) -> None:
    """Weights of no special value."""
    program.eval()
    with torch.no_grad():
        for name, p in program.emitted.named_parameters():
            noise = torch.randn_like(p)
            if "." not in name:  # a param
                p.copy_(0.6 * noise)
            elif p.ndim > 1:
                p.copy_(noise / max(1, p[0].numel()) ** 0.5)
            else:
                p.copy_((1.0 if name.endswith("weight") else 0.0) + 0.2 * noise)
    program.snapshot()
    program.data_size = DATA_SIZE


def data(model: Model, rows: int) -> dict[str, list[Assignment]]:
    """Rows of every source, of no special value."""
    return {
        law.key: [{v: families.somewhere(model.space(v)) for v in law.outputs} for _ in range(rows)]
        for law in model.evidence
    }


@dataclass(slots=True)
class Spec:
    """A program and its data. `known` are the Free laws' solutions where they were asked for, as logits."""

    program: Program
    rows: Mapping[str, Sequence[Assignment]]
    known: dict[tuple[object, ...], Tensor] = field(default_factory=dict[tuple[object, ...], Tensor])

    @property
    def model(self) -> Model:
        return self.program.model

    def reference(self, rows: int | None = None) -> Written:
        """The reference over the first rows, or all."""
        now = weights(self.program)
        return Written(self.model, now, now, {k: v[:rows] for k, v in self.rows.items()}, self.solved)

    def solved(self, law: Law, at: Assignment) -> Tensor:
        """log P of a Free law by the module, differentiable in logits of its own for each value of its givens."""
        key = (law.key, *(tuple(at[g].reshape(-1).tolist()) for g in law.givens))
        if key not in self.known:
            batch = {g: at[g].unsqueeze(0) for g in law.givens}
            found = self.program.distribution(law.key, batch).logits.detach().reshape(-1)
            self.known[key] = found.requires_grad_()
        return self.known[key].log_softmax(-1)

    def batch(self, rows: int) -> Batch:
        """The first rows as a batch."""
        found: Batch = {}
        for law in self.model.evidence:
            for v in law.outputs:
                found[batch_key(self.model, law.key, v)] = torch.stack([r[v] for r in self.rows[law.key][:rows]])
        return found or {"-": torch.zeros(rows, dtype=torch.float64)}


# --- weights


def weights(program: Program) -> Weights:
    """The weights as they are, differentiable; networks are the module's own layers."""
    layers = {n: _layers(program.model.nets[n], getattr(program.emitted, m)) for n, m in program.emitted.nets.items()}
    return Weights(program.params, layers)


def _layers(net: Net, made: nn.Module) -> Layers:
    """What enters is joined in order, or is an image alone. Layers that begin with a convolution take the image out;
    `head` takes what they make of it and the rest."""
    inner = made.layers
    assert isinstance(inner, nn.Module)
    if net.target:
        return inner
    if not hasattr(made, "head"):
        return inner if _sees_maps(inner) else (lambda x: inner(x.flatten(1)))
    image = next(i for i, s in enumerate(net.inputs) if len(s.shape) == 3)
    sizes = [s.width for s in net.inputs]

    def run(x: Tensor) -> Tensor:
        parts = list(x.split(sizes, -1))
        features = inner(parts.pop(image).reshape(-1, *net.inputs[image].shape))
        assert isinstance(made.head, nn.Module)
        return made.head(torch.cat([features.flatten(1), *parts], -1))

    return run


def _sees_maps(inner: nn.Module) -> bool:
    kinds = (m for m in inner.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d))
    return not isinstance(next(kinds, None), nn.Linear)


# --- densities


def densities(spec: Spec) -> Iterator[Finding]:
    for law in spec.model.laws.values():
        if isinstance(law.body, Distribution | Dirac):
            yield judged(law.text, "density", _law, spec, law)
        if isinstance(law.body, Distribution | Joint):
            yield judged(law.text, "log_prob", _log_prob, spec, law)


def judged(subject: str, what: str, judge: Callable[..., float], *arguments: object) -> Finding:
    """A finding, or why there is none: a density that is refused, or one without a value in the reference."""
    try:
        return Finding(subject, what, judge(*arguments))
    except (Undefined, NotFinite) as reason:
        return Finding(subject, what, None, str(reason))
    except TooMany:
        return Finding(subject, what, None, "more outcomes than can be summed over")
    except DataError as error:
        return Finding(subject, what, None, f"refused: {error.args[0]}")
    except Broken as error:
        return Finding(subject, f"{what}: {error}", math.inf)


Lead = tuple[int, ...]


def _law(spec: Spec, law: Law) -> float:
    """The worst difference among batches of several sizes, some with a dimension in front of the batch, of all givens
    or of some alone, as values that are summed over have it beside those of the data."""
    worst = 0.0
    batches: list[Callable[[int], Lead]] = [*((lambda _, n=n: (n,)) for n in ROWS), lambda _: (COPIES, 2)]
    if len(law.givens) > 1:
        batches += [lambda i, k=k: (COPIES, 2) if i % 2 == k else (2,) for k in (0, 1)]
    for lead in batches:
        worst = max(worst, _at(spec, law, lead))
    if any(f.at and f.law == law.key for other in spec.model.laws.values() for f in _factors(other)):
        worst = max(worst, _at(spec, law, lambda i: () if spec.model.space(law.givens[i]).kind == "finite" else (2,)))
    return worst


def _factors(law: Law) -> Iterator[Factor]:
    for b in law.body.branches if isinstance(law.body, Joint) else ():
        yield from b.factors


def _at(spec: Spec, law: Law, lead: Callable[[int], Lead]) -> float:
    """One batch: `lead` says what dimensions stand in front of each given's values, by its place. A global has none."""
    model, (v,) = spec.model, law.outputs
    leads = {g: () if model.variable(g).is_global else lead(i) for i, g in enumerate(law.givens)}
    whole = max([*leads.values(), lead(0) if not leads else ()], key=len) if not model.variable(v).is_global else ()
    givens = {g: _values(model, g, shape) for g, shape in leads.items()}
    rows: list[Assignment] = []
    for place in _places(whole):
        rows.append({g: givens[g][place[len(place) - len(shape) :]] for g, shape in leads.items()})
    w = spec.reference()
    outputs = [_drawn(w, law, row) for row in rows]
    x = torch.stack(outputs).reshape((*whole, *outputs[0].shape))
    try:
        made = spec.program.distribution(law.key, givens)
        if isinstance(law.body, Dirac):
            found = made.v.detach().expand(x.shape)
        else:
            found = made.log_prob(_as_drawn(law, x)).detach()
    except DataError:
        raise
    except Exception as error:  # whatever is emitted, it must not fail
        raise broken(error) from error
    if isinstance(law.body, Dirac):
        return apart(found.to(torch.float64), x.to(torch.float64))
    pairs = zip(rows, outputs, strict=True)
    exact = torch.stack([w.log_law(law, {**row, v: out}).detach() for row, out in pairs]).reshape(whole)
    return compared(found, exact)


def compared(found: Tensor, exact: Tensor) -> float:
    """How far log densities are apart; infinite where their shapes or infinities differ."""
    if found.shape != exact.shape or bool((found.isinf() != exact.isinf()).any()):
        return math.inf
    both = exact.isinf() & (found == exact)
    return apart(torch.where(both, 0.0, found), torch.where(both, 0.0, exact), 1.0)


def _drawn(w: Written, law: Law, at: Assignment) -> Tensor:
    """A value that the law draws for one datum."""
    space = w.model.space(law.outputs[0])
    if isinstance(law.body, Dirac):
        return value(w.model, w.now, law.body.value, at).detach().expand(space.shape)
    assert isinstance(law.body, Distribution)
    return families.draw(law.body.family, w.parameters(law.body, at), space)


def _as_drawn(law: Law, x: Tensor) -> Tensor:
    return x.to(torch.float64) if isinstance(law.body, Distribution) and law.body.family == "Bernoulli" else x


def _values(model: Model, v: str, lead: Lead) -> Tensor:
    space = model.space(v)
    found = [families.somewhere(space) for _ in range(math.prod(lead))]
    return torch.stack(found).reshape((*lead, *found[0].shape))


def _places(lead: Lead) -> Iterator[tuple[int, ...]]:
    """Every place of some dimensions, the last the fastest."""
    return itertools.product(*map(range, lead))


def _log_prob(spec: Spec, law: Law) -> float:
    """`Program.log_prob` of a law, a product or a mixture, what is hidden summed over."""
    model = spec.model
    names = (*law.outputs, *law.givens)
    if any(model.variable(v).is_global for v in _everything(model, law)):
        raise Undefined("globals")
    w = spec.reference()
    worst = 0.0
    for n in ROWS:
        rows = [_row(w, law, names) for _ in range(n)]
        exact = torch.stack([w.log_law(law, row).detach() for row in rows])
        batch = {v: torch.stack([row[v] for row in rows]) for v in names}
        try:
            found = spec.program.log_prob(law.text, batch).detach()
        except DataError as error:
            if is_product(model, law):
                raise broken(error) from error
            raise
        except Exception as error:  # whatever is emitted, it must not fail
            raise broken(error) from error
        worst = max(worst, compared(found, exact))
    return worst


def _everything(model: Model, law: Law) -> Iterator[str]:
    yield from (base(v) for v in (*law.outputs, *law.givens))
    for f in _factors(law):
        yield from (base(v) for v in f.variables)
        yield from _everything(model, model.laws[f.law]) if model.laws[f.law] != law else ()


def _row(w: Written, law: Law, names: Sequence[str]) -> dict[str, Tensor]:
    """Values anywhere in their spaces, those of a law its own draws every other time."""
    found: dict[str, Tensor] = {v: families.somewhere(w.model.space(v)) for v in names}
    if isinstance(law.body, Distribution) and bool(torch.rand(()) < 0.5):
        found[law.outputs[0]] = _drawn(w, law, found)
    return found


def is_product(model: Model, law: Law) -> bool:
    """A law, or a plain product of laws all of whose variables are shown: nothing in it can be refused."""
    if isinstance(law.body, Distribution):
        return True
    if not isinstance(law.body, Joint) or law.body.label is not None:
        return False
    factors = law.body.branches[0].factors
    shown = {v for f in factors for v in f.outputs} <= set(law.outputs)
    return shown and all(isinstance(model.laws[f.law].body, Distribution) and not f.old for f in factors)
