"""Joints and laws as Pyro programs: one site per variable, named as it; evidence is an argument, never drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from jointkl.emission.names import MODULE, Names, law_name
from jointkl.emission.statements import Do, Function, Let, Row, Rows, Statement, With
from jointkl.emission.terms import data_size
from jointkl.emission.tree import (
    BLANK,
    REST,
    Binary,
    Bracketed,
    Choice,
    Expression,
    Inside,
    Literal,
    Name,
    call,
    listed,
    member,
    own,
    quoted,
    string,
)
from jointkl.emission.writer import Attributes, full, to_dtype
from jointkl.objective.ir import Objective
from jointkl.objective.sites import Drawn, Mixture, Program, Site, Supplied, every
from jointkl.semantics.model import Joint

Keywords = Mapping[str, Expression]

ENUMERATED: Keywords = {"infer": Literal('{"enumerate": "parallel"}')}
"""On sites over finite spaces: `TraceEnum_ELBO` sums over them, as the losses do."""

SIZE = Name("size")

Branches = tuple[tuple[str, int], ...]


def programs(objective: Objective, attributes: Attributes, members: Names) -> dict[str, tuple[str, Function]]:
    """The methods of all programs, by the name that each answers to."""
    named = {p.key: _method(p, members) for p in objective.programs}
    return {p.key: (named[p.key], _program(p, attributes, named[p.key])) for p in objective.programs}


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


def _program(program: Program, attributes: Attributes, method: str) -> Function:
    """One method: globals' sites outside the plate, the others in it, the head returned by name."""
    w = Writer(program, attributes, Names.without(MODULE, ("size",)))
    _name_arguments(w)
    outer: list[Statement] = []
    inner: list[Statement] = []
    for d in program.drawn:
        kept = outer if isinstance(d, Site) and d.shared else inner
        kept += _sites(w, d)
    inner.append(Do(Literal(f"{{{', '.join(f'{quoted(v)}: {w.local(v)}' for v in program.head)}}}"), "return"))
    return Function(
        f"def {method}({', '.join(['self', *_signature(w)])}) -> dict[str, Tensor]:",
        (f'"""{program.told}"""',),
        (*outer, *(_plate(w, inner) if program.local else inner)),
    )


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
    shown: list[str] = []
    for i, p in enumerate(passed):
        if p.required:
            shown.append(f"{w.required[p.key]}: Tensor")
        else:
            shown.append(f"{w.optional[p.key]}: Tensor | None" + ("" if i < last else " = None"))
    return [*shown, *([] if not w.program.local or _batched(w) else ["size: int = 1"])]


def _batched(w: Writer) -> list[str]:
    """The required arguments that have one row for each datum."""
    each = {p.key for p in w.program.arguments if not p.shared}
    return [name for key, name in w.required.items() if key in each]


def _plate(w: Writer, inner: Sequence[Statement]) -> Iterator[Statement]:
    """Beside globals a batch stands for all N data: Pyro scales what is inside the plate."""
    required = _batched(w)
    rows = call("len", Name(required[0])) if required else SIZE
    for name in () if required else reversed(w.optional.values()):
        rows = Choice(call("len", Name(name)), _observed(name), rows)
    if w.program.sources is None:
        plate = call("pyro.plate", string("data"), rows)
    else:
        if isinstance(rows, Choice):
            yield Let(("size",), rows)
            rows = SIZE
        whole = Binary("or", data_size(w.program.sources), rows)
        plate = call("pyro.plate", string("data"), whole, subsample=call("torch.arange", rows))
    yield With(plate, tuple(inner))


def _observed(name: str) -> Expression:
    return Binary("is not", Name(name), BLANK)


# --- sites


def _sites(w: Writer, d: Drawn) -> list[Statement]:
    """The statements that draw variables. Evidence has none: it is an argument."""
    match d:
        case Mixture():
            return _mixture(w, d)
        case Supplied():
            return []
        case Site(variable=v):
            return [_sampled(w.local(v), v, *_site(w, d, v if v in w.optional else None))]


WIDTH = 100


def _sampled(local: str, name: str, law: Expression, keywords: Keywords) -> Statement:
    """A site, over three lines where it is long."""
    drawn = call("pyro.sample", string(name), law, **keywords)
    statement = Let((local,), drawn)
    if len(f"{local} = {drawn.text}") <= WIDTH:
        return statement
    return Rows(f"{local} = pyro.sample(", (Row("", Inside(drawn)),), ")", ("pyro",))


def _site(w: Writer, s: Site, observed: str | None) -> tuple[Expression, Keywords]:
    """What a site is given behind its name."""
    law = _called(w, s, s.function)
    infer: Keywords = ENUMERATED if s.summed else {}
    if observed is None:
        return law, infer
    name = w.local(observed)
    value: Expression = Name(name)
    missing = Binary("is", value, BLANK)
    if s.density:
        law = Choice(law, missing, _called(w, s, s.density))
    if s.space.kind == "finite" and s.family == "Bernoulli":
        value = Choice(value, missing, to_dtype(value))  # it may be an index
    return law, {"obs": value, **infer}


def _called(w: Writer, s: Site, function: str) -> Expression:
    """A law at its givens; a label that is known in its branch is a constant."""
    givens = (Name(w.local(a)) if isinstance(a, str) else full(a) for a in s.arguments)
    return own(w.attributes.laws[function], *givens)


def _mixture(w: Writer, m: Mixture, at: Branches = (), shared: frozenset[str] = frozenset()) -> list[Statement]:
    """The label is a site; each branch is drawn under a mask of its label, and the outputs take its values from them.

    `at` are the labels and values of the branches around this one, which mark the sites of variables that are `shared`
    with others of them.
    """
    y = _named(w, m.label, at, shared)
    found = [_sampled(y, _at(m.label, at, shared), _label_law(m), ENUMERATED)]
    counts = Counter(v for _, inner in m.branches for v in _generated(inner))
    outputs = {v for v, _ in m.outputs}
    several = shared | {v for v, n in counts.items() if n > 1 or v in outputs}
    values: list[tuple[int, dict[str, str]]] = []
    for value, drawn in m.branches:
        index = m.values.index(value)
        inner = replace(w, values=dict(w.values))
        sites = _branch(inner, drawn, several, (*at, (m.label, value)))
        if sites:
            found.append(With(call("pyro.poutine.mask", mask=_is(y, index)), tuple(sites)))
        values.append((index, inner.values))
    for v, event in m.outputs:
        name = _named(w, v, at, shared)
        made, chosen = _chosen(name, y, [(index, named[v]) for index, named in values], event)
        law = call("dist.Delta", chosen, event_dim=event)
        found += [*made, _sampled(name, _at(v, at, shared), law, {})]
    return found


def _is(y: str, index: int) -> Expression:
    return Binary("==", Name(y), Literal(str(index)))


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


def _branch(w: Writer, drawn: Iterable[Drawn], shared: frozenset[str], at: Branches) -> list[Statement]:
    """The sites of one branch: `x[y=1]` where other branches draw x too, `z` where none does."""
    sites: list[Statement] = []
    for d in drawn:
        match d:
            case Mixture():
                sites += _mixture(w, d, at, shared)
            case Supplied():
                w.evidence(d)
            case Site(variable=v):
                site = _site(w, d, None)
                sites.append(_sampled(_named(w, v, at, shared), _at(v, at, shared), *site))
    return sites


def _at(v: str, at: Branches, shared: frozenset[str]) -> str:
    """The name of a site."""
    return v + "".join(f"[{label}={value}]" for label, value in at) if v in shared else v


def _named(w: Writer, v: str, at: Branches, shared: frozenset[str]) -> str:
    """The local name of a value that this branch draws: `x_1` on the branch y=1."""
    marks = "_".join(str(value) for _, value in at)
    w.values[v] = w.names.of((at, v), f"{v}_{marks}" if at and v in shared else v)
    return w.values[v]


def _label_law(m: Mixture) -> Expression:
    if m.values == (0, 1):
        return call("dist.Bernoulli", full(m.shares[1]))
    return call("dist.Categorical", member("anchor").do("new_tensor", listed(*m.shares)))


def _chosen(name: str, y: str, values: Sequence[tuple[int, str]], event: int) -> tuple[list[Statement], Expression]:
    """The branch's value by the label, `torch.where`: an expression for two branches, line by line for more."""

    def where(index: int, value: str, otherwise: str) -> Expression:
        condition = _is(y, index)
        known = condition[(REST, *[BLANK] * event)] if event else Bracketed(condition)
        return call("torch.where", known, Name(value), Name(otherwise))

    *first, (_, last) = values
    if len(first) == 1:
        ((index, value),) = first
        return [], where(index, value, last)
    chosen = [Let((name,), where(index, value, name)) for index, value in reversed(first)]
    return [Let((name,), Name(last)), *chosen], Name(name)
