"""Joints as Pyro programs: one site per variable, named as the variable; evidence is an argument, never drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jointkl.derivation.facts import Facts
from jointkl.derivation.notation import factor as factor_text
from jointkl.derivation.notation import number
from jointkl.derivation.rules.marginalise import Paths, single_paths
from jointkl.emission.lines import Attributes
from jointkl.emission.names import MODULE, Names
from jointkl.emission.text import quoted
from jointkl.semantics.model import Branch, Dirac, Distribution, Evidence, Factor, Joint, Law, base


@dataclass(frozen=True, slots=True)
class Emitted:
    """A Pyro program: the names it answers to, and the method that it is."""

    key: str
    method: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Joints:
    """What all programs are written from; `observable` are the variables that some evidence gives: a caller may pass
    them."""

    facts: Facts
    attributes: Attributes
    observable: frozenset[str]


@dataclass(frozen=True, slots=True)
class Program:
    """What one method generates: `head` its visible variables, `given` the evidence it is called with."""

    facts: Facts
    attributes: Attributes
    names: Names
    head: tuple[str, ...]
    given: tuple[str, ...]

    def name(self, variable: str) -> str:
        return self.names.of(variable, variable)


def programs(facts: Facts, attributes: Attributes, names: Names) -> tuple[Emitted, ...]:
    """A program for each joint that can be drawn: a product one, a mixture one per branch and one with its label."""
    found: list[Emitted] = []
    opened = single_paths(facts)
    observable = frozenset(v for law in facts.model.evidence for v in law.outputs)
    for law in facts.model.laws.values():
        branches = opened.get(law.key, ())
        if isinstance(law.body, Joint) and not law.givens and branches and _drawable(facts, branches):
            found += _joint(Joints(facts, attributes, observable), names, law, law.body, branches)
    return tuple(found)


def _drawable(facts: Facts, branches: Paths) -> bool:
    """Every factor is evidence, a family or a Dirac."""
    bodies = [facts.model.laws[f.law].body for path in branches for f in path]
    return all(isinstance(b, Evidence | Distribution | Dirac) for b in bodies)


def _joint(joints: Joints, names: Names, law: Law, joint: Joint, paths: Paths) -> list[Emitted]:
    method = names.of(("program", law.key), f"{law.label}_{'_'.join(law.outputs)}")
    if joint.label is None:
        lines = _product(joints, law, joint.branches[0], paths[0], method, law.text)
        return [Emitted(law.key, method, tuple(lines))]
    found: list[Emitted] = []
    for branch, path in zip(joint.branches, paths, strict=True):
        head = tuple(v for v in law.outputs if v != joint.label)
        at = f"{joint.label}={branch.value}"
        key = f"{law.label}({','.join((*head, at))})"
        own = names.of(("program", key), f"{method}_{branch.value}")
        lines = _product(joints, law, branch, path, own, key)
        found.append(Emitted(key, own, tuple(lines)))
    return [*found, Emitted(law.key, method, tuple(_mixture(joints, law, joint, paths, method)))]


def evidence_of(facts: Facts, factors: Sequence[Factor]) -> tuple[str, ...]:
    """The variables that factors take from evidence, in order of declaration."""
    found = [v for f in factors if isinstance(facts.model.laws[f.law].body, Evidence) for v in f.outputs]
    return tuple(sorted(found, key=lambda v: (facts.order[base(v)], v)))


def _product(
    joints: Joints, law: Law, branch: Branch, factors: tuple[Factor, ...], method: str, text: str
) -> list[str]:
    facts = joints.facts
    head = tuple(v for v in law.outputs if v != branch.label)
    required = evidence_of(facts, factors)
    seen = sorted(joints.observable.intersection(head).difference(required), key=lambda v: (facts.order[base(v)], v))
    optional = tuple(seen)
    p = Program(facts, joints.attributes, Names.without(MODULE, ("size",)), head, required)
    arguments = _arguments(p, required, optional)
    shared = [f for f in factors if any(facts.model.variable(v).is_global for v in f.outputs)]
    outer = [line for f in shared for line in _sites(p, f, optional)]
    sites = [line for f in factors if f not in shared for line in _sites(p, f, optional)]
    returned = ", ".join(f"{quoted(v)}: {p.name(v)}" for v in head)
    size = [] if required else ["size: int = 1"]
    return [
        f"    def {method}({', '.join(['self', *arguments, *size])}) -> dict[str, Tensor]:",
        f'        """{text} = {" ".join(map(factor_text, factors))}"""',
        *(f"        {line}" for line in outer),
        f"        with pyro.plate({_plate(p, required, optional, bool(shared))}):",
        *(f"            {line}" for line in sites),
        f"            return {{{returned}}}",
    ]


def _arguments(p: Program, required: Sequence[str], optional: Sequence[str]) -> list[str]:
    """In order of declaration, so that the programs of both joints take evidence alike; None: not observed."""
    ordered = sorted((*required, *optional), key=lambda v: (p.facts.order[base(v)], v))
    last = max((i for i, v in enumerate(ordered) if v in required), default=-1)
    written: list[str] = []
    for i, v in enumerate(ordered):
        kind = "Tensor" if v in required else "Tensor | None" if i < last else "Tensor | None = None"
        written.append(f"{p.name(v)}: {kind}")
    return written


def _plate(p: Program, required: Sequence[str], optional: Sequence[str], shared: bool) -> str:
    """Beside globals a batch stands for all N data: Pyro scales what is inside the plate."""
    rows = _size(p, required, optional)
    if shared and required:
        return f'"data", self.data_size or {rows}, subsample=torch.arange({rows})'
    return f'"data", {rows}'


def _size(p: Program, required: Sequence[str], optional: Sequence[str]) -> str:
    if required:
        return f"len({p.name(required[0])})"
    text = "size"
    for v in reversed(optional):
        text = f"len({p.name(v)}) if {p.name(v)} is not None else {text}"
    return text


def _sites(p: Program, f: Factor, observed: Sequence[str]) -> list[str]:
    """The line that draws a factor's variable. Evidence has none: it is an argument."""
    law = p.facts.model.laws[f.law]
    if isinstance(law.body, Evidence):
        return []
    (v,) = f.outputs
    called = _called(p, f, p.name)
    obs = f", obs={_observed(p, law, v)}" if v in observed else ""
    return [f"{p.name(v)} = pyro.sample({quoted(v)}, {called}{obs})"]


def _observed(p: Program, law: Law, variable: str) -> str:
    """What a site observes, as its law would draw it: a Bernoulli's values are floats, a finite variable's indices."""
    name = p.name(variable)
    bernoulli = isinstance(law.body, Distribution) and law.body.family == "Bernoulli"
    if bernoulli and p.facts.model.space(variable).kind == "finite":
        return f"None if {name} is None else {name}.to(self.anchor.dtype)"
    return name


def _called(p: Program, f: Factor, name: Callable[[str], str]) -> str:
    """A law at its givens; a label that is known in its branch is a constant."""
    law = p.facts.model.laws[f.law]
    places = {i: p.facts.model.space(law.givens[i]).values.index(value) for i, value in f.at}
    givens = [f"self.full({float(places[i])})" if isinstance(g, int) else name(g) for i, g in enumerate(f.arguments)]
    return f"self.{p.attributes.laws[f.law]}({', '.join(givens)})"


# --- mixtures


def _mixture(joints: Joints, law: Law, joint: Joint, paths: Paths, method: str) -> list[str]:
    """The label is a site; each branch is drawn under a mask of its label, and the head takes its values from them."""
    facts = joints.facts
    opened = list(zip(joint.branches, paths, strict=True))
    label = joint.label or "label"
    head = tuple(v for v in law.outputs if v != label)
    required = tuple(dict.fromkeys(v for _, fs in opened for v in evidence_of(facts, fs)))
    p = Program(facts, joints.attributes, Names.without(MODULE, ("size",)), head, required)
    arguments = [f"{p.name(v)}: Tensor" for v in required]
    y = p.names.of(("label", label), label)
    text = "; ".join(f"{b.label}={b.value}: {number(b.weight)} {' '.join(map(factor_text, fs))}" for b, fs in opened)
    size = [] if required else ["size: int = 1"]
    lines = [
        f"    def {method}({', '.join(['self', *arguments, *size])}) -> dict[str, Tensor]:",
        f'        """{law.text} = {{ {text} }}"""',
        f"        with pyro.plate({_plate(p, required, (), False)}):",
        f'            {y} = pyro.sample({quoted(label)}, {_label_law(joint)}, infer={{"enumerate": "parallel"}})',
    ]
    values: list[tuple[int, dict[str, str]]] = []
    ordered = sorted(b.value or 0 for b in joint.branches)
    for branch, factors in opened:
        index = ordered.index(branch.value or 0)
        sites, named = _branch(p, branch, factors, y, index, opened)
        lines += sites
        values.append((index, named))
    names = {v: p.names.of(("head", v), v) for v in head}
    for v in head:
        event = len(facts.model.space(v).shape)
        made, chosen = _chosen(names[v], y, [(index, named[v]) for index, named in values], event)
        lines += [f"            {line}" for line in made]
        lines.append(f"            {names[v]} = pyro.sample({quoted(v)}, dist.Delta({chosen}, event_dim={event}))")
    returned = ", ".join(
        [*(f"{quoted(v)}: {names[v]}" for v in head), *([f"{quoted(label)}: {y}"] if label in law.outputs else [])]
    )
    return [*lines, f"            return {{{returned}}}"]


def _label_law(joint: Joint) -> str:
    branches = sorted(joint.branches, key=lambda b: b.value or 0)
    weights = [float(b.weight) for b in branches]
    if [b.value for b in branches] == [0, 1]:
        return f"dist.Bernoulli(self.full({weights[1]!r}))"
    return f"dist.Categorical(self.anchor.new_tensor({weights!r}))"


def _branch(
    p: Program,
    branch: Branch,
    factors: tuple[Factor, ...],
    y: str,
    index: int,
    opened: Sequence[tuple[Branch, tuple[Factor, ...]]],
) -> tuple[list[str], dict[str, str]]:
    """The sites of one branch: `x[y=1]` where other branches draw x too, `z` where none does."""
    sites: list[str] = []
    named: dict[str, str] = {}
    at = f"[{branch.label}={branch.value}]"
    for f in factors:
        law = p.facts.model.laws[f.law]
        for v in f.outputs:
            if isinstance(law.body, Evidence):
                named[v] = p.name(v)
                continue
            shared = v in p.head or sum(v in g.outputs for _, gs in opened for g in gs) > 1
            named[v] = p.names.of((branch.value, v), f"{v}_{branch.value}" if shared else v)
            called = _called(p, f, named.__getitem__)
            sites.append(f"{named[v]} = pyro.sample({quoted(v + at if shared else v)}, {called})")
    if not sites:
        return [], named
    return [
        f"            with pyro.poutine.mask(mask={y} == {index}):",
        *(f"                {s}" for s in sites),
    ], named


def _chosen(name: str, y: str, values: Sequence[tuple[int, str]], event: int) -> tuple[list[str], str]:
    """The branch's value by the label, `torch.where`: an expression for two branches, line by line for more."""
    dims = f"[{', '.join(['...', *['None'] * event])}]" if event else ""
    *first, (_, last) = values
    if len(first) == 1:
        ((index, value),) = first
        return [], f"torch.where(({y} == {index}){dims}, {value}, {last})"
    chosen = [f"{name} = torch.where(({y} == {index}){dims}, {value}, {name})" for index, value in reversed(first)]
    return [f"{name} = {last}", *chosen], name
