"""Joints and laws as Pyro programs: one site per variable, named as it; evidence is an argument, never drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from jointkl.emission.formulas import data_size
from jointkl.emission.lines import Attributes
from jointkl.emission.names import MODULE, Names, law_name
from jointkl.emission.text import quoted
from jointkl.objective.ir import Objective
from jointkl.objective.sites import Drawn, Mixture, Program, Site, Supplied, every
from jointkl.semantics.model import Joint

ENUMERATED = 'infer={"enumerate": "parallel"}'
"""On sites over finite spaces: `TraceEnum_ELBO` sums over them, as the losses do."""


@dataclass(frozen=True, slots=True)
class Emitted:
    """A Pyro program: the name it answers to, and the method that it is."""

    key: str
    method: str
    lines: tuple[str, ...]


def programs(objective: Objective, attributes: Attributes, members: Names) -> tuple[Emitted, ...]:
    """The methods of all programs."""
    return tuple(Emitted(p.key, name := _method(p, members), _program(p, attributes, name)) for p in objective.programs)


def _method(p: Program, members: Names) -> str:
    joint = isinstance(p.law.body, Joint)
    whole = members.of(("program", p.law.key), law_name(p.law) if joint else f"sample_{law_name(p.law)}")
    return whole if p.branch is None else members.of(("program", p.key), f"{whole}_{p.branch}")


@dataclass(slots=True)
class Writer:
    """Writes one program. `values` are the variables' local names, `required` and `optional` the arguments by key."""

    program: Program
    attributes: Attributes
    names: Names
    values: dict[str, str] = field(default_factory=dict[str, str])
    required: dict[str, str] = field(default_factory=dict[str, str])
    optional: dict[str, str] = field(default_factory=dict[str, str])

    def local(self, v: str) -> str:
        """The local name of a variable's value."""
        if v not in self.values:
            self.values[v] = self.names.of(v, v)
        return self.values[v]

    def evidence(self, supplied: Supplied) -> None:
        """What the program takes from a source: an argument each, named as the key in a batch."""
        for v, key in supplied.keys:
            self.required[key] = self.values[v] = self.names.of(key, key)


def _program(program: Program, attributes: Attributes, method: str) -> tuple[str, ...]:
    """One method: globals' sites outside the plate, the others in it, the head returned by name."""
    w = Writer(program, attributes, Names.without(MODULE, ("size",)))
    _name_arguments(w)
    outer: list[str] = []
    inner: list[str] = []
    for d in program.drawn:
        own = outer if isinstance(d, Site) and d.shared else inner
        own += _sites(w, d)
    returned = ", ".join(f"{quoted(v)}: {w.local(v)}" for v in program.head)
    lines = [
        f"    def {method}({', '.join(['self', *_signature(w)])}) -> dict[str, Tensor]:",
        f'        """{program.told}"""',
        *(f"        {line}" for line in outer),
    ]
    if program.local:
        lines += [f"        {line}" for line in _plate(w)]
    pad = "            " if program.local else "        "
    return (*lines, *(f"{pad}{line}" for line in inner), f"{pad}return {{{returned}}}")


# --- arguments


def _name_arguments(w: Writer) -> None:
    for g in w.program.law.givens:
        w.required[g] = w.local(g)
    for d in every(w.program.drawn):
        if isinstance(d, Supplied):
            w.evidence(d)
    for passed in w.program.arguments:
        if not passed.required:
            w.optional[passed.key] = w.local(passed.key)


def _signature(w: Writer) -> list[str]:
    """None is what was not observed."""
    passed = w.program.arguments
    last = max((i for i, p in enumerate(passed) if p.required), default=-1)
    written: list[str] = []
    for i, p in enumerate(passed):
        if p.required:
            written.append(f"{w.required[p.key]}: Tensor")
        else:
            written.append(f"{w.optional[p.key]}: Tensor | None" + ("" if i < last else " = None"))
    return [*written, *([] if not w.program.local or _batched(w) else ["size: int = 1"])]


def _batched(w: Writer) -> list[str]:
    """The required arguments that have one row for each datum."""
    own = {p.key for p in w.program.arguments if not p.shared}
    return [name for key, name in w.required.items() if key in own]


def _plate(w: Writer) -> list[str]:
    """Beside globals a batch stands for all N data: Pyro scales what is inside the plate."""
    required = _batched(w)
    rows = f"len({required[0]})" if required else "size"
    if not required:
        for name in reversed(w.optional.values()):
            rows = f"len({name}) if {name} is not None else {rows}"
    sources = w.program.sources
    if sources is None:
        return [f'with pyro.plate("data", {rows}):']
    counted = [] if required or rows == "size" else [f"size = {rows}"]
    rows = "size" if counted else rows
    return [*counted, f'with pyro.plate("data", {data_size(sources)} or {rows}, subsample=torch.arange({rows})):']


# --- sites


def _sites(w: Writer, d: Drawn) -> list[str]:
    """The lines that draw variables. Evidence has none: it is an argument."""
    match d:
        case Mixture():
            return _mixture(w, d)
        case Supplied():
            return []
        case Site(variable=v):
            return _sampled(w.local(v), quoted(v), _site(w, d, v if v in w.optional else None))


WIDTH = 100


def _sampled(local: str, name: str, arguments: Sequence[str]) -> list[str]:
    """The line of a site, or three where it is long."""
    inner = ", ".join((name, *arguments))
    line = f"{local} = pyro.sample({inner})"
    return [line] if len(line) <= WIDTH else [f"{local} = pyro.sample(", f"    {inner}", ")"]


def _site(w: Writer, s: Site, observed: str | None) -> list[str]:
    """What a site is given behind its name."""
    called = _called(w, s, s.function)
    infer = [ENUMERATED] if s.summed else []
    if observed is None:
        return [called, *infer]
    value = w.local(observed)
    if s.density:
        called = f"{called} if {value} is None else {_called(w, s, s.density)}"
    if s.space.kind == "finite" and s.family == "Bernoulli":
        value = f"{value} if {value} is None else {value}.to(self.anchor.dtype)"  # it may be an index
    return [called, f"obs={value}", *infer]


def _called(w: Writer, s: Site, function: str) -> str:
    """A law at its givens; a label that is known in its branch is a constant."""
    givens = [w.local(a) if isinstance(a, str) else f"self.full({a})" for a in s.arguments]
    return f"self.{w.attributes.laws[function]}({', '.join(givens)})"


def _mixture(w: Writer, m: Mixture, at: str = "", shared: frozenset[str] = frozenset()) -> list[str]:
    """The label is a site; each branch is drawn under a mask of its label, and the outputs take its values from them.

    `at` marks the sites of variables that are `shared` with other branches of a mixture around this one.
    """
    y = _named(w, m.label, at, shared)
    lines = _sampled(y, _at(m.label, at, shared), [_label_law(m), ENUMERATED])
    counts = Counter(v for _, inner in m.branches for v in _generated(inner))
    outputs = {v for v, _ in m.outputs}
    several = shared | {v for v, n in counts.items() if n > 1 or v in outputs}
    values: list[tuple[int, dict[str, str]]] = []
    for value, drawn in m.branches:
        index = m.values.index(value)
        inner = replace(w, values=dict(w.values))
        sites = _branch(inner, drawn, several, f"{at}[{m.label}={value}]")
        lines += [f"with pyro.poutine.mask(mask={y} == {index}):", *(f"    {s}" for s in sites)] if sites else []
        values.append((index, inner.values))
    for v, event in m.outputs:
        name = _named(w, v, at, shared)
        made, chosen = _chosen(name, y, [(index, named[v]) for index, named in values], event)
        lines += [*made, *_sampled(name, _at(v, at, shared), [f"dist.Delta({chosen}, event_dim={event})"])]
    return lines


def _generated(drawn: Iterable[Drawn]) -> Iterator[str]:
    """The variables that have sites in a branch, or values there: those of mixtures inside it, and their labels."""
    for d in drawn:
        match d:
            case Site(variable=v):
                yield v
            case Supplied(keys=keys):
                yield from (v for v, _ in keys)
            case Mixture(label=label, outputs=outputs, branches=branches):
                yield from {label, *(v for v, _ in outputs), *(v for _, inner in branches for v in _generated(inner))}


def _branch(w: Writer, drawn: Iterable[Drawn], shared: frozenset[str], at: str) -> list[str]:
    """The sites of one branch: `x[y=1]` where other branches draw x too, `z` where none does."""
    sites: list[str] = []
    for d in drawn:
        match d:
            case Mixture():
                sites += _mixture(w, d, at, shared)
            case Supplied():
                w.evidence(d)
            case Site(variable=v):
                site = _site(w, d, None)
                sites += _sampled(_named(w, v, at, shared), _at(v, at, shared), site)
    return sites


def _at(v: str, at: str, shared: frozenset[str]) -> str:
    """The name of a site, quoted."""
    return quoted(v + at if v in shared else v)


def _named(w: Writer, v: str, at: str, shared: frozenset[str]) -> str:
    """The local name of a value that this branch draws: `x_1` on the branch y=1."""
    marks = "_".join(part.rpartition("=")[2] for part in at.replace("]", "").split("[") if part)
    w.values[v] = w.names.of((at, v), f"{v}_{marks}" if at and v in shared else v)
    return w.values[v]


def _label_law(m: Mixture) -> str:
    if m.values == (0, 1):
        return f"dist.Bernoulli(self.full({m.shares[1]!r}))"
    return f"dist.Categorical(self.anchor.new_tensor({list(m.shares)!r}))"


def _chosen(name: str, y: str, values: Sequence[tuple[int, str]], event: int) -> tuple[list[str], str]:
    """The branch's value by the label, `torch.where`: an expression for two branches, line by line for more."""
    dims = f"[{', '.join(['...', *['None'] * event])}]" if event else ""
    *first, (_, last) = values
    if len(first) == 1:
        ((index, value),) = first
        return [], f"torch.where(({y} == {index}){dims}, {value}, {last})"
    chosen = [f"{name} = torch.where(({y} == {index}){dims}, {value}, {name})" for index, value in reversed(first)]
    return [f"{name} = {last}", *chosen], name
