"""A drawn spec compiled: in double precision, at parameters of no special value, its gradients by parameter."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

import torch
from hypothesis import event, note, reject
from hypothesis import settings as hypothesis_settings
from torch import Tensor, nn

import jointkl
from jointkl.program import Program
from tests.properties.exact import Exact, Lookup, grads, logits
from tests.properties.expectation import expected
from tests.properties.specs import Distribution, Goal, Spec

LEGITIMATE: dict[str, str] = {
    "E-CRITIC": "a density that data alone have is compared where nothing is classified",
    "E-RATIO": "that density has no partner to make one ratio with",
    "E-CLASSIFIER": "the classifier does not see what differs between the branches",
    "E-DENSITY": "the optimum of the classifier does not replace every density that data alone have",
    "E-NOT-YET": "read and checked, and said to be left out",
}
"""Codes with which a drawn spec may be refused, and why."""


def examples(count: int) -> hypothesis_settings:
    """So many examples, the same in every run; more, and at random, under --hypothesis-profile=thorough."""
    known = hypothesis_settings.default
    assert known is not None
    times = known.max_examples / 100
    return hypothesis_settings(max_examples=max(1, int(count * times)), deadline=None, derandomize=times == 1)


def compiled(
    spec: Spec,
    text: str | None = None,
    names: Mapping[str, str] | None = None,
    size: float = 0.8,
    more: Iterable[str] = (),
) -> Program:
    """The program of a spec, written as `text`; a legitimate refusal, or one of `more` codes, is not drawn."""
    shown = spec.text if text is None else text
    note(shown)
    try:
        made = jointkl.compile(jointkl.parse(shown)).double()
    except jointkl.JklError as error:
        codes = {r.code for r in error.reports}
        if not codes <= {*LEGITIMATE, *more}:
            raise
        event(f"refused: {', '.join(sorted(codes))}")
        reject()
    scatter(made, names, size=size)
    return made


def parameters(program: Program) -> Iterator[tuple[str, nn.Parameter]]:
    """What is trained, by the spec's names: `E.layers.weight`, `w1`."""
    own = dict(program.emitted.named_parameters())
    for name, member in program.emitted.nets.items():
        for inner, w in getattr(program.emitted, member).named_parameters():
            yield f"{name}.{inner}", w
    for name, member in program.emitted.params.items():
        yield name, own[f"{member}_raw"] if f"{member}_raw" in own else own[member]


def scatter(program: Program, names: Mapping[str, str] | None = None, seed: int = 0, size: float = 0.8) -> None:
    """Parameters of no special value, that depend on their names alone; `names` gives a new name's old one."""
    with torch.no_grad():
        for name, w in parameters(program):
            first, _, rest = name.partition(".")
            known = f"{(names or {}).get(first, first)}.{rest} {seed}"
            chance = torch.Generator().manual_seed(int(hashlib.sha256(known.encode()).hexdigest()[:12], 16))
            w.copy_(size * torch.randn(w.shape, generator=chance, dtype=w.dtype))
    program.snapshot()


# --- who is trained by what


def kind(program: Program, player: str) -> str:
    return next(p.kind for p in program.derivation.facts.players if p.name == player)


def losing(program: Program, *kinds: str) -> list[str]:
    """The players of some kinds that have a loss."""
    return [p for p in program.emitted.losses if not kinds or kind(program, p) in kinds]


def trains(spec: Spec, program: Program, player: str, goal: Goal) -> bool:
    """Whether a goal trains a player, by the language's words."""
    members = next(p.members for p in program.derivation.facts.players if p.name == player)
    if goal.over is not None:
        return any(m in goal.over for m in members)
    own = [c for c in spec.classifiers if network(spec, c) in members]
    return not own or any(f.law in own for d in goal.terms for f in d.right)


def network(spec: Spec, key: str) -> str:
    body = spec.law(key).body
    assert isinstance(body, Distribution)
    return body.source


def replaced(program: Program, net: str, module: nn.Module) -> None:
    """A network of the emitted class gives way to one that is exact."""
    setattr(program.emitted, program.emitted.nets[net], module)


def at_the_optimum(spec: Spec, program: Program, exact: Exact) -> None:
    """Every classifier becomes the best one at the present parameters, and is held there."""
    for key in spec.classifiers:
        terms = [d for g in spec.goals for d in g.terms if any(f.law == key for f in d.right)]
        table = exact.optimum(key, terms[0].left[0].law)
        exact.fixed[key] = table
        replaced(program, network(spec, key), Lookup(spec, table.names[:-1], logits(spec, key, table)))


# --- gradients


def before(spec: Spec, program: Program) -> Exact:
    """The spec at the snapshot, whatever becomes of the parameters."""
    twin = Program(program.derivation, program.objective, program.source).double()
    twin.load_state_dict(program.state_dict())
    return Exact(spec, twin)


def gradients(spec: Spec, program: Program, copies: int = 1, option: str = "") -> dict[str, Tensor]:
    """The expected gradient of every player's emitted loss, by parameter."""
    found: dict[str, Tensor] = {}
    names = {id(w): n for n, w in parameters(program)}
    for player in program.emitted.losses:
        own = program.parameters_of(player)
        for w, g in zip(own, grads(expected(spec, program, player, copies), own), strict=True):
            found[names[id(w)]] = g
    return found


def target(spec: Spec, program: Program, player: str, exact: Exact) -> Tensor:
    """What a player minimises: the goals that train it."""
    total = sum(exact.objective(g) for g in spec.goals if trains(spec, program, player, g))
    assert isinstance(total, Tensor)
    return total


def verify_gradient(
    spec: Spec, program: Program, player: str, wanted: Tensor, copies: int = 1, tolerance: float = 1e-8
) -> None:
    """The gradient of a player's emitted loss, in expectation, is that of `wanted`."""
    own = program.parameters_of(player)
    found = grads(expected(spec, program, player, copies), own)
    names = {id(w): n for n, w in parameters(program)}
    for w, a, b in zip(own, found, grads(wanted, own), strict=True):
        what = f"{player}: d/d {names[id(w)]}"
        close(a, b, what, f"{spec.text}\n{program.derivation.text()}", tolerance)


def close(a: Tensor, b: Tensor, what: str, shown: str, tolerance: float = 1e-8) -> None:
    torch.testing.assert_close(
        a, b, rtol=tolerance, atol=tolerance, msg=lambda m: f"{what}: {m}\nof\n{shown}"
    )  # fmt: skip


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor], shown: str) -> None:
    """Two specs have the same gradients; what has no loss has none."""
    for name in {**a, **b}:
        some = a[name] if name in a else b[name]
        close(a.get(name, torch.zeros_like(some)), b.get(name, torch.zeros_like(some)), f"d/d {name}", shown)
