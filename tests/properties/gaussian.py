"""Linear-Gaussian worlds: random specs over real variables, and their exact divergences.

Every variable is an affine function of standard noise, so joints and marginals are Gaussians in closed form, and the
best classifier is the sigmoid of a quadratic. Expectations are Gauss-Hermite sums over the noise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from jointkl.program import Program
from tests.properties.making import SHARES, Making
from tests.properties.specs import (
    Branch,
    Distribution,
    Divergence,
    Evidence,
    Factor,
    Goal,
    Joint,
    Law,
    Spec,
    Var,
)

DATA = ((0.3, 0.9), (-0.4, 1.1), (0.0, 0.7))
"""Mean and standard deviation of the data: of the first variable, of the next ones."""

# --- specs


@dataclass
class Linear(Making):
    """Laws of real variables: means affine in the givens, scales constant or a param."""

    def reals(self, count: int) -> list[str]:
        self.variables += [Var(n, "real", 0) for n in "x z t".split()[:count]]
        return [v.name for v in self.variables]

    def distribution(self, output: str, givens: tuple[str, ...], constant: bool = True) -> Distribution:
        standard = Distribution("Normal(0, 1)", "Normal", "zero", numbers=(1.0,))
        if not givens and constant and self.flag():
            return standard
        if givens and self.flag(2, 3):
            name = next(n for n in "EFGHKLMN" if n not in self.nets)
            self.nets[name] = "linear()"
            mean, how, source = f"{name}({','.join(givens)})", "net", name
        else:
            source = self._param("real")
            mean, how = (f"{source} * {givens[0]} - 0.5", "slope") if givens else (source, "param")
        if self.flag():
            scale = self.choice(0.8, 1.0, 0.6)
            return Distribution(f"Normal({mean}, {scale})", "Normal", how, source, numbers=(scale,))
        scale = self._param("positive")
        return Distribution(f"Normal({mean}, {scale})", "Normal", how, source, spread=scale)

    def _param(self, space: str) -> str:
        name = next(n for i in range(1, 99) if (n := f"w{i}") not in self.params)
        self.params[name] = space
        return name

    def delta(self, label: str, output: str, givens: tuple[str, ...]) -> Factor:
        name = next(n for n in "EFGHKLMN" if n not in self.nets)
        self.nets[name] = "linear()"
        body = Distribution(f"Delta({name}({','.join(givens)}))", "Delta", "net", name, numbers=(0.0,))
        law = Law(label, (output,), givens, body)
        self.laws[law.key] = law
        return Factor(law.key, (output,), givens)

    def evidence(self, outputs: tuple[str, ...]) -> Factor:
        law = Law("data", outputs, (), Evidence(()))
        self.laws[law.key] = law
        return Factor(law.key, outputs)


@st.composite
def likelihoods(draw: Callable, options: tuple[str, ...] = (), evidence: bool = False) -> Spec:
    """KL of two linear-Gaussian factorisations, the left one from data or not."""
    m = Linear(draw)
    head = m.reals(m.choice(2, 1, 3))
    roots = (m.evidence((head[0],)),) if evidence or m.flag(2, 3) else ()
    left = m.product(head, "pr", roots)
    right = m.product(head, "q")
    return m.spec(Goal((Divergence("KL", tuple(left), tuple(right), m.weight()),), options=options))


@st.composite
def mixtures(draw: Callable, options: tuple[str, ...] = (), delta: bool = False) -> Spec:
    """A labelled mixture of data times an encoder and of a generator, its reference the first."""
    m = Linear(draw)
    head = tuple(m.reals(1 if delta else m.choice(2, 1)))
    m.variables.append(Var("y", "{0, 1}", 2))
    first = m.product(list(head), "p", (m.evidence(("x",)),))
    latent = [Factor("q(t)", ("t",))] if delta or m.flag() else []
    if latent:
        m.variables.append(Var("t", "real", 0))
        m.factor("q", "t", ())
    second = [*latent, m.delta("q", "x", ("t",))] if delta else m.product(list(head), "q", tuple(latent))
    return labelled(m, head, first, second, options)


def labelled(m: Linear, head: tuple[str, ...], first: list[Factor], second: list[Factor], options: tuple) -> Spec:
    shares = m.choice(*SHARES)
    outputs = (*head, "y")
    body = Joint((Branch(tuple(first), shares[0], 1), Branch(tuple(second), shares[1], 0)), "y")
    law = Law("m", outputs, (), body)
    m.laws[law.key] = law
    m.nets["D"] = "linear()"
    classifier = Law("d", ("y",), head, Distribution(f"Bernoulli(D({','.join(head)}))", "Bernoulli", "net", "D"))
    m.laws[classifier.key] = classifier
    right = (*first, Factor(classifier.key, ("y",), head))
    goal = Goal((Divergence("KL", (Factor(law.key, outputs),), right, m.weight()),), options=options)
    return m.spec(goal, classifiers=(classifier.key,))


@st.composite
def ratios(draw: Callable) -> Spec:
    """A goal with a critic: a generator against data; a posterior of more noise than its density; information."""
    m = Linear(draw)
    m.nets["C"] = "linear()"
    what = m.choice("generated", "implicit", "information")
    maximize = False
    if what == "generated":
        m.reals(1)
        m.variables.append(Var("t", "real", 0))
        latent = m.factor("q", "t", ())
        moving = m.delta("q", "x", ("t",)) if m.flag() else m.factor("q", "x", ("t",))
        sides = ((m.named("q", ("x",), [latent, moving]),), (m.evidence(("x",)),))
    elif what == "implicit":
        m.reals(3)
        data, noise = m.evidence(("x",)), m.factor("p", "t", ())
        code = m.factor("p", "z", ("x", "t"), constant=False)
        hidden = Law("p", ("z",), ("x",), Joint((Branch((noise, code)),)))
        m.laws[hidden.key] = hidden
        prior, decoder = m.factor("q", "z", ()), m.factor("q", "x", ("z",))
        sides = ((data, Factor(hidden.key, ("z",), ("x",))), (prior, decoder))
    else:
        m.reals(2)
        joint = (m.evidence(("x",)), m.factor("p", "z", ("x",), constant=False))
        sides = (joint, (joint[0], m.named("agg", ("z",), list(joint))))
        maximize = m.flag()
    return m.spec(Goal((Divergence("KL", *sides, m.weight()),), options=("critic=C",), maximize=maximize))


# --- exact Gaussians

Affine = tuple[Tensor, Tensor]
"""Mean, and coefficients of the noise."""


class World:
    """A spec's joints as Gaussians at a program's present parameters."""

    def __init__(self, spec: Spec, program: Program, *, coarse: bool = False) -> None:
        self.spec, self.program, self.coarse = spec, program, coarse

    def path(self, factors: Iterable[Factor]) -> list[Factor]:
        """The factors in sampling order, joints opened (each hides what it hides: names are not shared)."""
        flat = list(self._opened(factors))
        ordered: list[Factor] = []
        while len(ordered) < len(flat):
            known = {v for f in ordered for v in f.outputs}
            ordered.append(next(f for f in flat if f not in ordered and set(f.givens) <= known))
        return ordered

    def _opened(self, factors: Iterable[Factor]) -> Iterator[Factor]:
        for f in factors:
            law = self.spec.law(f.law)
            if isinstance(law.body, Joint):
                (branch,) = law.body.branches
                yield from self._opened(branch.factors)
            else:
                yield f

    def variables(self, path: Sequence[Factor]) -> dict[str, Affine]:
        """Every variable of a path as mean + coefficients @ noise, a number of noise for each factor."""
        found: dict[str, Affine] = {}
        for i, f in enumerate(path):
            body = self.spec.law(f.law).body
            own = torch.zeros(len(path), dtype=torch.float64)
            if isinstance(body, Evidence):
                (loc, scale), (v,) = DATA["xzt".index(f.outputs[0])], f.outputs
                own[i] = scale
                found[v] = (torch.tensor(loc, dtype=torch.float64), own)
                continue
            assert isinstance(body, Distribution)
            mean, slopes = self._mean(body, len(f.givens))
            spread = self.program.params[body.spread] if body.spread else torch.tensor(body.numbers[0])
            coefficients = own.index_put((torch.tensor(i),), spread.to(own.dtype))
            for slope, g in zip(slopes, f.givens, strict=True):
                mean = mean + slope * found[g][0]
                coefficients = coefficients + slope * found[g][1]
            found[f.outputs[0]] = (mean, coefficients)
        return found

    def _mean(self, body: Distribution, count: int) -> tuple[Tensor, list[Tensor]]:
        zero = torch.zeros((), dtype=torch.float64)
        match body.how:
            case "zero":
                return zero, []
            case "param":
                return self.program.params[body.source], []
            case "slope":
                return zero - 0.5, [self.program.params[body.source], *[zero] * (count - 1)]
            case _:
                net = self.program.nets[body.source]
                basis = torch.cat([torch.zeros(1, count), torch.eye(count)]).double()
                values = net(*basis.unbind(1))
                return values[0], [values[i + 1] - values[0] for i in range(count)]

    def gaussian(self, factors: Iterable[Factor], head: Sequence[str], held: bool = False) -> MultivariateNormal:
        """The joint of some variables of a product; `held`: at the present parameters, without gradient."""
        found = self.variables(self.path(factors))
        mean = torch.stack([found[v][0] for v in head])
        rows = torch.stack([found[v][1] for v in head])
        mean, rows = (mean.detach(), rows.detach()) if held else (mean, rows)
        return MultivariateNormal(mean, rows @ rows.T)

    def expected(self, factors: Iterable[Factor], head: Sequence[str], f: Callable[[Tensor], Tensor]) -> Tensor:
        """E of f at the variables of `head`, (N, len(head)), by quadrature."""
        path = _ancestors(self.path(factors), head)
        found = self.variables(path)
        nodes, weights = hermite(len(path), coarse=self.coarse)
        values = torch.stack([found[v][0] + nodes @ found[v][1] for v in head], -1)
        return (weights * f(values)).sum()


def _ancestors(path: Sequence[Factor], head: Iterable[str]) -> list[Factor]:
    needed, kept = set(head), list[Factor]()
    for f in reversed(path):
        if needed & set(f.outputs):
            kept.append(f)
            needed |= set(f.givens)
    return kept[::-1]


NODES = {1: (96, 64), 2: (64, 48), 3: (28, 22)}
"""How many in each dimension: finely, and coarsely to see what the error is."""


def hermite(dims: int, *, coarse: bool = False) -> tuple[Tensor, Tensor]:
    """Nodes (N, dims) and weights of the standard normal."""
    if not dims:
        return torch.zeros(1, 0).double(), torch.ones(1).double()
    x, w = np.polynomial.hermite_e.hermegauss(NODES[dims][coarse])
    one, weight = torch.tensor(x), torch.tensor(w / w.sum())
    nodes = torch.cartesian_prod(*[one] * dims).reshape(-1, dims)
    weights = torch.cartesian_prod(*[weight] * dims).reshape(-1, dims).prod(-1)
    return nodes, weights


class Difference(nn.Module):
    """log a(v) - log b(v) + offset of two Gaussians: the logit of an exact classifier or critic."""

    def __init__(self, a: MultivariateNormal, b: MultivariateNormal, offset: float = 0.0) -> None:
        super().__init__()
        self.pair, self.offset = (a, b), offset

    def forward(self, *inputs: Tensor) -> Tensor:
        v = torch.stack(torch.broadcast_tensors(*inputs), -1)
        a, b = self.pair
        return quadratic(a, v) - quadratic(b, v) + self.offset


def quadratic(d: MultivariateNormal, v: Tensor) -> Tensor:
    """The log-density, by plain arithmetic that can be mapped over."""
    n = d.loc.shape[-1]
    gap = v - d.loc
    square = (gap.unsqueeze(-2) @ d.precision_matrix @ gap.unsqueeze(-1)).squeeze(-1).squeeze(-1)
    return -0.5 * (square + torch.logdet(d.covariance_matrix) + n * np.log(2 * np.pi))


def classifier(spec: Spec, world: World) -> Difference:
    """The best classifier of the spec's labelled mixture, held."""
    (key,) = spec.classifiers
    body = spec.law(spec.goals[0].terms[0].left[0].law).body
    assert isinstance(body, Joint)
    one, zero = sorted(zip(body.branches, body.shares(), strict=True), key=lambda pair: -(pair[0].value or 0))
    head = spec.law(key).givens
    a, b = (world.gaussian(branch.factors, head, held=True) for branch, _ in (one, zero))
    return Difference(a, b, float(np.log(float(one[1] / zero[1]))))


# --- what the emitted code draws


def keys(spec: Spec, program: Program, path: Sequence[Factor]) -> list[str]:
    """The key of a batch under which each factor of a path takes its value or its noise."""
    given = {v for law in spec.evidence for v in law.outputs}
    found: list[str] = []
    for f in path:
        law = spec.law(f.law)
        (v,) = f.outputs
        if isinstance(law.body, Evidence):
            found.append(v)
        elif law.body.text == "Normal(0, 1)" and not law.givens:
            found.append(f"{law.label}.{v}" if v in given else v)
        elif law.body.family != "Delta":
            found.append(f"{v}.noise")
    return found


def noise(
    spec: Spec, program: Program, paths: Sequence[Sequence[Factor]], *, coarse: bool = False
) -> tuple[Mapping[str, Tensor], Tensor]:
    """A batch of all noise on the quadrature's nodes, and their weights.

    Draws of different paths never meet in one term, so that they may be the same noise.
    """
    places: dict[str, int] = {}
    read = set(re.findall(r'batch\["([^"]+)"\]', program.source))
    for path in paths:
        wanted = [k for k in keys(spec, program, path) if k in read]
        free = [i for i in range(9) if i not in {places[k] for k in wanted if k in places}]
        for k in wanted:
            if k not in places:
                places[k] = free.pop(0)
        assert len({places[k] for k in wanted}) == len(wanted)
    nodes, weights = hermite(max(places.values(), default=-1) + 1, coarse=coarse)
    batch = {} if places else {"nothing": torch.zeros(1)}
    for k, i in places.items():
        loc, scale = DATA["xzt".index(k)] if k in {v for law in spec.evidence for v in law.outputs} else (0.0, 1.0)
        batch[k] = loc + scale * nodes[:, i]
    return batch, weights


def with_options(spec: Spec, *options: str) -> Spec:
    return replace(spec, goals=tuple(replace(g, options=options) for g in spec.goals))
