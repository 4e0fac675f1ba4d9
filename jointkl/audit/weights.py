"""The weights of an instance: networks that are tables, and classifiers and critics at their optimum.

An `mlp` with as many hidden units as it meets different inputs is a table: its first layer is a gate for each input,
all of whose numbers are bits, and its last layer holds what is read. A trunk passes on which input it saw.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Set

import torch
from torch import Tensor, nn

from jointkl.audit.making import calls, parameters
from jointkl.program import Program
from jointkl.reference.values import Layers, Weights
from jointkl.semantics.model import Model, NetCall, ParameterRef, Value, VariableRef
from jointkl.semantics.spaces import Space

Input = tuple[tuple[float, bool], ...]
"""The numbers that enter a network, and which are bits: a param's are not, and no gate looks for them."""


def layers(program: Program, net: str) -> nn.Sequential:
    return getattr(program.emitted, program.emitted.nets[net]).layers


def first(program: Program, net: str) -> nn.Linear:
    return _linear(layers(program, net)[0])


def last(program: Program, net: str) -> nn.Linear:
    return _linear(layers(program, net)[-1])


def _linear(layer: nn.Module) -> nn.Linear:
    assert isinstance(layer, nn.Linear)
    return layer


def now(program: Program) -> Weights:
    """The weights as they are, differentiable."""
    return Weights(program.params, {n: _through(layers(program, n)) for n in program.emitted.nets})


def held(program: Program) -> Weights:
    """A copy of the weights as they are, without gradient."""
    copied: dict[str, Layers] = {}
    for net in program.emitted.nets:
        inner = layers(program, net)
        weights = [(p.detach().clone()) for p in inner.parameters()]
        copied[net] = _forward(weights)
    return Weights({n: p.detach().clone() for n, p in program.params.items()}, copied)


def _through(inner: nn.Sequential) -> Layers:
    return _forward(list(inner.parameters()))


def _forward(weights: Sequence[Tensor]) -> Layers:
    """Linear layers with a relu between them, by plain arithmetic."""

    def run(x: Tensor) -> Tensor:
        for k in range(0, len(weights), 2):
            x = x @ weights[k].T + weights[k + 1]
            x = x.relu() if k + 2 < len(weights) else x
        return x

    return run


# --- networks as tables


def scatter(program: Program, trunks: Set[str], seed: int, size: float = 0.8) -> None:
    """Weights of no special value in every table and param; gates and trunks as they must be."""
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for net in program.emitted.nets:
            patterns = list(inputs(program, net))
            _gate(program, net, patterns, chance)
            table = last(program, net)
            if net in trunks:
                table.weight.copy_(torch.eye(*table.weight.shape, dtype=torch.float64))
                table.bias.zero_()
            else:
                table.weight.copy_(size * torch.randn(table.weight.shape, generator=chance, dtype=torch.float64))
                table.bias.copy_(0.3 * torch.randn(table.bias.shape, generator=chance, dtype=torch.float64))
        for member in program.emitted.params.values():
            free = raw(program, member)
            free.copy_(size * torch.randn(free.shape, generator=chance, dtype=torch.float64))


def raw(program: Program, member: str) -> nn.Parameter:
    """The free numbers that a param is made of."""
    own = dict(program.emitted.named_parameters())
    return own[f"{member}_raw"] if f"{member}_raw" in own else own[member]


def _gate(program: Program, net: str, patterns: Sequence[Input], chance: torch.Generator) -> None:
    """relu(2 (sum of s (2x - 1) - k + 1/2)) with signs s: 1 at its own pattern of k bits, 0 at every other."""
    gates = first(program, net)
    if len(patterns) > gates.out_features:
        raise AssertionError(f"{net} meets {len(patterns)} inputs and has {gates.out_features} units")
    gates.weight.zero_()
    gates.bias.fill_(-1.0)
    for unit, pattern in enumerate(patterns):
        signs = torch.tensor([2 * x - 1 if bit else 0.0 for x, bit in pattern], dtype=torch.float64)
        free = torch.tensor([not bit for _, bit in pattern])
        small = 0.05 * torch.randn(len(pattern), generator=chance, dtype=torch.float64)
        gates.weight[unit] = torch.where(free, small, 4 * signs)
        gates.bias[unit] = 2 * (0.5 - signs.abs().sum() - signs.sum())


def inputs(program: Program, net: str) -> Iterator[Input]:
    """Every input that a network meets, as the numbers that enter it."""
    found = next((c for c in _calls(program.model) if c.net == net), None)
    parts = (
        [_patterns(program, v, s) for v, s in zip(found.inputs, program.model.nets[net].inputs, strict=True)]
        if found is not None
        else [_points(s) for s in program.model.nets[net].inputs]
    )
    for chosen in itertools.product(*parts):
        yield tuple(b for part in chosen for b in part)


def gate_values(program: Program, net: str) -> Tensor:
    """What each hidden unit gives at its own input: 1 but for what a param adds."""
    gates = first(program, net)
    found: list[Tensor] = []
    for unit, pattern in enumerate(inputs(program, net)):
        x = torch.tensor([number for number, _ in pattern], dtype=torch.float64)
        found.append((gates.weight[unit] @ x + gates.bias[unit]).relu())
    return torch.stack(found).detach()


def nested(model: Model) -> Iterator[NetCall]:
    """The applications that stand inside others."""
    for call in _calls(model):
        for v in call.inputs:
            yield from calls(v)


def _calls(model: Model) -> Iterator[NetCall]:
    pending: list[NetCall] = [c for law in model.laws.values() for v in parameters(law) for c in calls(v)]
    pending += [NetCall(*g.options.critic) for g in model.goals if g.options.critic and g.options.critic[1]]
    while pending:
        call = pending.pop(0)
        yield call
        pending += [c for v in call.inputs for c in calls(v)]


def _patterns(program: Program, v: Value, space: Space) -> list[Input]:
    match v:
        case VariableRef():
            return _points(space)
        case NetCall(net=net):
            count = len(list(inputs(program, net)))
            width = last(program, net).out_features
            return [_bits(float(i == k) for i in range(width)) for k in range(count)]
        case ParameterRef(name=name):
            return [tuple((float(x), False) for x in program.params[name].detach().flatten())]
        case _:
            raise AssertionError(f"an instance applies no network to {v}")


def _points(space: Space) -> list[Input]:
    if space.kind == "finite":
        n = len(space.values)
        return [_bits(float(i == k) for i in range(n)) for k in range(n)]
    return [_bits(b) for b in itertools.product((0.0, 1.0), repeat=space.size)]


def _bits(numbers: Iterable[float]) -> Input:
    return tuple((x, True) for x in numbers)
