"""A compiled linear-Gaussian instance with weights and evidence, and the reference beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jointkl.audit import weights
from jointkl.audit.case import DATA_SIZE, Broken, Case, apart, batch_key, gradient
from jointkl.audit.making import calls, parameters
from jointkl.audit.noise import COPIES, Batch, Runner, Source, Unmeasured
from jointkl.program import Program
from jointkl.reference import gaussian_goals
from jointkl.reference.gaussian import GaussianModel, Normal
from jointkl.reference.goals import Undefined
from jointkl.reference.players import Player, classifier, divergences, label
from jointkl.reference.values import Layers, Weights
from jointkl.semantics.model import Factor, Goal, Hinge, Model, NetCall, VariableRef, base

AGREE = 1e-7
"""Two grids of the reference whose gradients differ by more, relative to their size, are not exact."""


class Best(nn.Module):
    """The exact optimum in place of a classifier's or critic's net: the log shares of Gaussian mixtures at its inputs,
    one mixture for each label, or two and their difference for a net of one output. `tilt`, at first zero, is what is
    trained of it."""

    def __init__(self, sizes: Sequence[int], mixtures: Sequence[Sequence[tuple[float, Normal]]], single: bool) -> None:
        super().__init__()
        self.sizes, self.mixtures, self.single = tuple(sizes), tuple(mixtures), single
        self.tilt = nn.Linear(sum(sizes), 1 if single else len(mixtures)).double()
        nn.init.zeros_(self.tilt.weight)
        nn.init.zeros_(self.tilt.bias)

    def flat(self, v: Tensor) -> Tensor:
        """At inputs side by side, (.., d): (.., outputs)."""
        logs = [log_density(mixture, v) for mixture in self.mixtures]
        found = (logs[1] - logs[0]).unsqueeze(-1) if self.single else torch.stack(logs, -1)
        return found + self.tilt(v)

    def forward(self, *inputs: Tensor) -> Tensor:
        found = self.flat(side_by_side(inputs, self.scalars))
        return found.squeeze(-1) if self.single else found

    scalars: tuple[bool, ...] = ()
    """Which inputs have no dimension of their own."""


def log_density(mixture: Sequence[tuple[float, Normal]], v: Tensor) -> Tensor:
    parts = [math.log(share) + n.log_density(v) for share, n in mixture]
    return parts[0] if len(parts) == 1 else torch.logsumexp(torch.stack(parts), 0)


def side_by_side(inputs: Sequence[Tensor], scalars: Sequence[bool]) -> Tensor:
    parts = [v.unsqueeze(-1) if s else v for v, s in zip(inputs, scalars, strict=True)]
    shape = torch.broadcast_shapes(*(p.shape[:-1] for p in parts))
    return torch.cat([p.expand(*shape, -1) for p in parts], -1)


@dataclass(slots=True)
class GaussianCase:
    program: Program
    evidence: dict[str, Normal]
    runner: Runner
    before: Weights

    @property
    def model(self) -> Model:
        return self.program.model

    def world(self, coarse: bool = False) -> GaussianModel:
        return GaussianModel(self.model, now(self.program), self.before, self.evidence, coarse)

    def exact(self, player: Player) -> Callable[[bool], Tensor]:
        """What a player minimises by the reference, on a fine or coarse grid."""
        return lambda coarse: gaussian_goals.objective(self.world(coarse), player, DATA_SIZE)

    def loss(self, name: str) -> Callable[[Batch], Tensor]:
        """A player's loss by the module, whose failures are `Broken`."""

        def computed(batch: Batch) -> Tensor:
            try:
                return self.program.loss(name, batch)
            except Unmeasured:
                raise
            except Exception as error:  # whatever is emitted, it must not fail
                if "vmap" in str(error) or "functorch" in str(error):
                    raise
                raise Broken(f"{type(error).__name__}: {error}".splitlines()[0]) from error

        return computed

    def parameters(self, player: Player) -> list[nn.Parameter]:
        return self._plain.parameters(player)

    def players(self) -> Iterator[tuple[str, Player]]:
        return self._plain.players()

    @property
    def _plain(self) -> Case:
        return Case(self.program, {}, 1, self.before)


def made(program: Program, seed: int) -> GaussianCase:
    """A program with weights of no special value, as a case."""
    scatter(program, seed)
    program.snapshot()
    model = program.model
    if any(v.is_global for v in model.variables.values()):
        program.data_size = DATA_SIZE
    known = evidence(model, seed)
    sources = tuple(s for key, law in known.items() for s in _sources(model, key, law))
    moments = any("moments" in g.options.estimate for g in model.goals)
    hinges = any(isinstance(t, Hinge) for g in model.goals for t in g.terms)
    return GaussianCase(program, known, Runner(program, sources, moments or hinges), held(program))


def _sources(model: Model, key: str, law: Normal) -> Iterator[Source]:
    """Independent draws of a law's row, each a prime or more behind the last: columns that are copies of one variable,
    `data(x, x')`, are of one draw, and the next is `x''`, `x'''`, so that no key stands for two numbers."""
    outputs = model.laws[key].outputs
    sizes = [model.space(v).size for v in outputs]
    places = dict(zip(outputs, torch.arange(sum(sizes)).split(sizes), strict=True))
    taken: set[str] = set()
    for primes in range(COPIES * len(outputs)):
        moved = {v: batch_key(model, key, v) + "'" * primes for v in outputs}
        known = {base(v) for v, k in moved.items() if k in taken}
        kept = [v for v in outputs if base(v) not in known]
        taken |= {moved[v] for v in kept}
        if kept:
            at = torch.cat([places[v] for v in kept])
            columns = tuple((moved[v], model.space(v).shape) for v in kept)
            yield Source(columns, Normal(law.mean[at], law.cov[at][:, at]))


def evidence(model: Model, seed: int) -> dict[str, Normal]:
    """The columns of each law bound to a source, jointly Gaussian."""
    chance = torch.Generator().manual_seed(2000 + seed)
    found: dict[str, Normal] = {}
    for law in model.evidence:
        n = sum(model.space(v).size for v in law.outputs)
        root = torch.eye(n).double() + 0.3 * torch.randn(n, n, generator=chance, dtype=torch.float64)
        mean = 0.4 * torch.randn(n, generator=chance, dtype=torch.float64)
        found[law.key] = Normal(mean, 0.8 * root @ root.T)
    return found


# --- weights


def scatter(program: Program, seed: int) -> None:
    """Weights of no special value: linear nets neither flat nor steep, those of classifiers small."""
    chance = torch.Generator().manual_seed(3000 + seed)

    def random(shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=chance, dtype=torch.float64)

    with torch.no_grad():
        for member in program.emitted.nets.values():
            linears = [m for m in getattr(program.emitted, member).modules() if isinstance(m, nn.Linear)]
            for m in linears:
                straight = 0.6 * torch.eye(*m.weight.shape, dtype=torch.float64) if len(linears) == 1 else 0.0
                m.weight.copy_(straight + 0.25 * random(m.weight.shape))
                m.bias.copy_(0.3 * random(m.bias.shape))
        for member in program.emitted.params.values():
            free = weights.raw(program, member)
            free.copy_(0.3 * random(free.shape))


def now(program: Program) -> Weights:
    """The weights as they are, differentiable."""
    found: dict[str, Layers] = {}
    for net, member in program.emitted.nets.items():
        inner = getattr(program.emitted, member)
        found[net] = inner.flat if isinstance(inner, Best) else _forward(list(inner.parameters()))
    return Weights(program.params, found)


def held(program: Program) -> Weights:
    """A copy of the weights as they are, without gradient."""
    layers: dict[str, Layers] = {}
    for net, member in program.emitted.nets.items():
        layers[net] = _forward([p.detach().clone() for p in getattr(program.emitted, member).parameters()])
    return Weights({n: p.detach().clone() for n, p in program.params.items()}, layers)


def _forward(own: Sequence[Tensor]) -> Layers:
    """Linear layers with a tanh between them, by plain arithmetic."""

    def run(x: Tensor) -> Tensor:
        for k in range(0, len(own), 2):
            x = x @ own[k].T + own[k + 1]
            x = x.tanh() if k + 2 < len(own) else x
        return x

    return run


# --- classifiers and critics at their optimum


def _put(case: GaussianCase, net: str, mixtures: Sequence[Sequence[tuple[float, Normal]]], single: bool) -> None:
    spaces = case.model.nets[net].inputs
    best = Best([s.size for s in spaces], mixtures, single)
    best.scalars = tuple(not s.shape for s in spaces)
    setattr(case.program.emitted, case.program.emitted.nets[net], best)


def optimise_classifiers(case: GaussianCase, player: Player) -> None:
    """The share of the samples at v that branch k drew, as the net of each classifier. Raises `Undefined`."""
    done: set[str] = set()
    for goal in case.model.goals:
        for d in divergences(goal):
            c = classifier(case.model, d)
            if c is None or c.law in done or c.law not in player.classifiers:
                continue
            done.add(c.law)
            shown = label(case.model, d.left)
            assert shown is not None
            found = set(_calls(case.model, c))
            if len(found) != 1:
                raise Undefined(f"{case.model.laws[c.law].text} is more than one net")
            (call,) = found
            where = dict(zip(case.model.laws[c.law].givens, c.givens, strict=True))
            names = [where[v.name] for v in call.inputs if isinstance(v, VariableRef)]
            if len(names) != len(call.inputs):
                raise Undefined(f"{call.net} is given more than variables")
            world = case.world()
            mixtures: list[list[tuple[float, Normal]]] = [[] for _ in case.model.space(shown).values]
            for p in world.paths(d.left):
                place = case.model.space(shown).values.index(p.labels[shown])
                mixtures[place].append((p.share, world.drawn(p).normal(names).detached()))
            outputs = case.model.nets[call.net].outputs
            _put(case, call.net, mixtures, outputs == 1)


def _calls(model: Model, c: Factor) -> Iterator[NetCall]:
    for v in parameters(model.laws[c.law]):
        yield from calls(v)


@dataclass(frozen=True, slots=True)
class Samples:
    """What a critic is trained on: Gaussians with their shares, those labelled 1 and those labelled 0."""

    reference: tuple[tuple[float, Normal], ...]
    moving: tuple[tuple[float, Normal], ...]


class _Probe(nn.Module):
    """In place of a critic: what it is applied to, and a level that every logit has."""

    def __init__(self, scalars: Sequence[bool], level: float) -> None:
        super().__init__()
        self.scalars, self.level = scalars, level
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, *inputs: Tensor) -> Tensor:
        v = side_by_side(inputs, self.scalars)
        logit = torch.full(v.shape[:-1], self.level, dtype=torch.float64, requires_grad=True)
        self.seen.append((v.detach(), logit))
        return logit


def samples(case: GaussianCase, name: str, critic: str) -> Samples:
    """What the module trains a critic on: its inputs are affine in the noise, so that the noise's axes tell their
    Gaussians, and of -E_r log sigma(l) - E_m log sigma(-l) the gradient in the logits tells their shares."""
    member = case.program.emitted.nets[critic]
    kept = getattr(case.program.emitted, member)
    scalars = [not s.shape for s in case.model.nets[critic].inputs]
    try:
        setattr(case.program.emitted, member, _Probe(scalars, 0.0))
        sources, columns = case.runner.needed(case.loss(name))
        rows = max(67, columns + 2)
        noise = torch.zeros(rows, columns, dtype=torch.float64)
        noise[1 : columns + 1] = torch.eye(columns, dtype=torch.float64)
        noise[columns + 1 :] = torch.linspace(-1.1, 0.7, columns, dtype=torch.float64)
        slopes: list[Tensor] = []
        inputs = torch.zeros(0)
        levels = [torch.tensor(level, dtype=torch.float64) for level in (0.0, 1.0)]
        for level in levels:
            probe = _Probe(scalars, float(level))
            setattr(case.program.emitted, member, probe)
            found = case.runner.run(case.loss(name), sources, noise)
            grads = torch.autograd.grad(found, [logit for _, logit in probe.seen], allow_unused=True)
            each = [
                torch.zeros_like(logit) if g is None else g for g, (_, logit) in zip(grads, probe.seen, strict=True)
            ]
            slopes.append(torch.cat([g.reshape(-1, rows).sum(1) for g in each]))
            inputs = torch.cat([v.reshape(-1, rows, v.shape[-1]) for v, _ in probe.seen])
    finally:
        setattr(case.program.emitted, member, kept)
    (a, b), (s, t) = slopes, (v.sigmoid() for v in levels)
    both = (b - a) / (t - s)
    reference = s * both - a
    return _gaussians(inputs, columns, reference, both - reference)


def _gaussians(inputs: Tensor, columns: int, reference: Tensor, moving: Tensor) -> Samples:
    found: tuple[list[tuple[float, Normal]], ...] = ([], [])
    for block, *shares in zip(inputs, moving.tolist(), reference.tolist(), strict=True):
        rows = (block[1 : columns + 1] - block[0]).T
        there = block[0] + torch.linspace(-1.1, 0.7, columns, dtype=torch.float64) @ rows.T
        if (block[columns + 1] - there).abs().max() > 1e-8:
            raise Undefined("a critic looks at what is not linear in the noise")
        if max(abs(x) for x in shares) < 1e-12:
            continue
        cov = rows @ rows.T
        if torch.linalg.eigvalsh(cov).min() < 1e-9:
            raise Undefined("a critic looks at what has no density")
        for k, share in enumerate(shares):
            if abs(share) > 1e-12:
                found[k].append((share, Normal(block[0], cov)))
    return Samples(tuple(found[1]), tuple(found[0]))


def optimise_critic(case: GaussianCase, goal: Goal, s: Samples) -> None:
    """l = log r - log m in place of the critic."""
    assert goal.options.critic is not None
    _put(case, goal.options.critic[0], (s.moving, s.reference), True)


def critics(case: GaussianCase, player: Player) -> Iterator[Goal]:
    """The goals whose critic a player holds, one for each critic."""
    seen: set[str] = set()
    for goal in case.model.goals:
        if goal.options.critic is not None and goal.options.critic[0] in player.critics - seen:
            seen.add(goal.options.critic[0])
            yield goal


def grid_gradient(exact: Callable[[bool], Tensor], own: Sequence[Tensor]) -> Tensor:
    """The gradient of what the reference gives, where two grids agree on it. Raises `Undefined`."""
    fine, coarse = (gradient(exact(c), own) for c in (False, True))
    if apart(fine, coarse) > AGREE:
        raise Undefined(f"two grids of the reference differ by {apart(fine, coarse):.0e}")
    return fine
