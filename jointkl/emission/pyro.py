"""Joints and laws as Pyro programs: one site per variable, named as it; evidence is an argument, never drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from jointkl.derivation.facts import Facts, fresh
from jointkl.derivation.notation import factor as factor_text
from jointkl.derivation.notation import number
from jointkl.derivation.rules.marginalise import applied
from jointkl.emission.laws import key_of
from jointkl.emission.lines import Attributes
from jointkl.emission.names import MODULE, Names, law_name
from jointkl.emission.text import quoted
from jointkl.semantics.model import Branch, Dirac, Distribution, Evidence, Factor, Joint, Law, base

ENUMERATED = 'infer={"enumerate": "parallel"}'
"""On sites over finite spaces: `TraceEnum_ELBO` sums over them, as the losses do."""


@dataclass(frozen=True, slots=True)
class Emitted:
    """A Pyro program: the name it answers to, and the method that it is."""

    key: str
    method: str
    lines: tuple[str, ...]


def programs(facts: Facts, attributes: Attributes, members: Names) -> tuple[Emitted, ...]:
    """A program for each joint and each law that can be drawn; a labelled mixture has one for each branch too."""
    found: list[Emitted] = []
    for law in facts.model.laws.values():
        whole = Factor(law.key, law.outputs, law.givens)
        if isinstance(law.body, Evidence) or not _drawable(facts, attributes, (whole,), inside=False):
            continue
        if not isinstance(law.body, Joint):
            method = members.of(("program", law.key), f"sample_{law_name(law)}")
            found.append(_program(facts, attributes, law, (whole,), law.key, method))
            continue
        method = members.of(("program", law.key), law_name(law))
        if law.body.label is None:
            found.append(_program(facts, attributes, law, law.body.branches[0].factors, law.key, method))
            continue
        for b in law.body.branches if law.body.label in law.outputs else ():
            head = ",".join((*(v for v in law.outputs if v != b.label), f"{b.label}={b.value}"))
            key = f"{law.label}({head}{'|' if law.givens else ''}{','.join(law.givens)})"
            own = members.of(("program", key), f"{method}_{b.value}")
            found.append(_program(facts, attributes, law, b.factors, key, own, without=b.label))
        found.append(_program(facts, attributes, law, (whole,), law.key, method))
    return tuple(found)


def _drawable(facts: Facts, attributes: Attributes, factors: Iterable[Factor], *, inside: bool) -> bool:
    """Has every law in it a distribution? `inside` a mixture no global is drawn."""
    for f in factors:
        body = facts.model.laws[f.law].body
        if isinstance(body, Joint):
            inner = inside or len(body.branches) > 1
            aged = [[replace(g, old=g.old or f.old) for g in b.factors] for b in body.branches]
            if not all(_drawable(facts, attributes, factors, inside=inner) for factors in aged):
                return False
            continue
        known = isinstance(body, Evidence) or key_of(f.law, "old" if f.old else "") in attributes.laws
        if not known or (inside and any(facts.model.variable(v).is_global for v in f.outputs)):
            return False
    return True


@dataclass(slots=True)
class Writer:
    """Writes one program. `values` are the variables' local names, `required` and `optional` the arguments by key."""

    facts: Facts
    attributes: Attributes
    names: Names
    head: tuple[str, ...]
    taken: set[str]
    values: dict[str, str] = field(default_factory=dict[str, str])
    required: dict[str, str] = field(default_factory=dict[str, str])
    optional: dict[str, str] = field(default_factory=dict[str, str])

    def local(self, v: str) -> str:
        """The local name of a variable's value; a label that the caller fixed is a constant."""
        if v not in self.values:
            self.values[v] = self.names.of(v, v)
        return self.values[v]

    def evidence(self, f: Factor, law: Law, body: Evidence) -> None:
        """What the program takes from a source: an argument each, named as the key in a batch."""
        for v, u in zip(f.outputs, law.outputs, strict=True):
            key = self.facts.model.batch_key(body.rows, base(u)) + v[len(base(v)) :]
            self.required[key] = self.values[v] = self.names.of(key, key)


def _program(
    facts: Facts,
    attributes: Attributes,
    law: Law,
    factors: tuple[Factor, ...],
    key: str,
    method: str,
    without: str | None = None,
) -> Emitted:
    """One method: globals' sites outside the plate, the others in it, the head returned by name."""
    head = tuple(v for v in law.outputs if v != without)
    names = Names.without(MODULE, ("size",))
    taken = {*law.outputs, *law.givens, *(v for f in factors for v in f.variables)}
    w = Writer(facts, attributes, names, head, taken)
    for g in law.givens:
        w.required[g] = w.local(g)
    product = _flat(facts, factors, w.taken)
    _arguments(w, product, law)
    outer: list[str] = []
    inner: list[str] = []
    for f in product:
        mixed = isinstance(facts.model.laws[f.law].body, Joint)
        own = outer if not mixed and facts.model.variable(f.outputs[0]).is_global else inner
        own += _sites(w, f)
    returned = ", ".join(f"{quoted(v)}: {w.local(v)}" for v in head)
    local = any(not facts.model.variable(v).is_global for v in w.values if base(v) in facts.model.variables)
    lines = [
        f"    def {method}({', '.join(['self', *_signature(w, law, local)])}) -> dict[str, Tensor]:",
        f'        """{_told(facts, key, factors)}"""',
        *(f"        {line}" for line in outer),
    ]
    if local:
        lines.append(f"        with pyro.plate({_plate(w, bool(outer))}):")
    pad = "            " if local else "        "
    lines += [*(f"{pad}{line}" for line in inner), f"{pad}return {{{returned}}}"]
    return Emitted(key, method, tuple(lines))


def _told(facts: Facts, key: str, factors: tuple[Factor, ...]) -> str:
    body = facts.model.laws[factors[0].law].body if len(factors) == 1 else None
    if len(factors) == 1 and facts.model.laws[factors[0].law].key == key and isinstance(body, Joint):
        return f"{key} = {{ {'; '.join(map(_branch_text, body.branches))} }}"
    if len(factors) == 1 and factors[0].law == key:
        return f"{key} as a program"
    return f"{key} = {' '.join(map(factor_text, factors))}"


def _branch_text(b: Branch) -> str:
    return f"{b.label}={b.value}: {number(b.weight)} {' '.join(map(factor_text, b.factors))}"


def _flat(facts: Facts, factors: Iterable[Factor], taken: set[str]) -> tuple[Factor, ...]:
    """Products opened, hidden variables renamed apart; mixtures stay."""
    found: list[Factor] = []
    for f in factors:
        law = facts.model.laws[f.law]
        if isinstance(law.body, Joint) and law.body.label is None:
            found += _flat(facts, applied(law, f, law.body.branches[0].factors, taken), taken)
        else:
            found.append(f)
    return tuple(found)


# --- arguments


def _arguments(w: Writer, product: Iterable[Factor], law: Law) -> None:
    """Evidence that the program needs, and values of its head that a caller may have observed.

    Those are what some evidence gives; of a law by itself its output, whatever that is.
    """
    drawn: list[str] = []
    for f in product:
        own = w.facts.model.laws[f.law]
        match own.body:
            case Evidence():
                w.evidence(f, own, own.body)
            case Joint():
                for b in own.body.branches:
                    inner = replace(w, values=dict(w.values), head=())
                    _arguments(inner, _flat(w.facts, applied(own, f, b.factors, set(w.taken)), set(w.taken)), law)
            case _:
                drawn += f.outputs
    given = {v for e in w.facts.model.evidence for v in e.outputs}
    observable = law.outputs if not isinstance(law.body, Joint) else tuple(v for v in w.head if v in given)
    for v in _ordered(w, observable):
        if v in drawn:
            w.optional[v] = w.local(v)


def _ordered(w: Writer, keys: Iterable[str]) -> list[str]:
    """In order of declaration."""

    def place(key: str) -> tuple[int, str]:
        return w.facts.order.get(base(key.rpartition(".")[2]), 0), key

    return sorted(keys, key=place)


def _signature(w: Writer, law: Law, local: bool) -> list[str]:
    """A law's givens, then evidence in order of declaration, so that the programs of two joints take it alike; None
    is what was not observed."""
    keys = [*law.givens, *_ordered(w, (k for k in (*w.required, *w.optional) if k not in law.givens))]
    last = max((i for i, k in enumerate(keys) if k in w.required), default=-1)
    written: list[str] = []
    for i, k in enumerate(keys):
        if k in w.required:
            written.append(f"{w.required[k]}: Tensor")
        else:
            written.append(f"{w.optional[k]}: Tensor | None" + ("" if i < last else " = None"))
    return [*written, *([] if not local or _batched(w) else ["size: int = 1"])]


def _batched(w: Writer) -> list[str]:
    """The required arguments that have one row for each datum."""
    return [name for k, name in w.required.items() if not w.facts.model.variable(k.rpartition(".")[2]).is_global]


def _plate(w: Writer, shared: bool) -> str:
    """Beside globals a batch stands for all N data: Pyro scales what is inside the plate."""
    required = _batched(w)
    rows = f"len({required[0]})" if required else "size"
    if not required:
        for name in reversed(w.optional.values()):
            rows = f"len({name}) if {name} is not None else {rows}"
    if shared and required:
        return f'"data", self.data_size or {rows}, subsample=torch.arange({rows})'
    return f'"data", {rows}'


# --- sites


def _sites(w: Writer, f: Factor) -> list[str]:
    """The lines that draw a factor's variables. Evidence has none: it is an argument."""
    law = w.facts.model.laws[f.law]
    if isinstance(law.body, Evidence):
        return []
    if isinstance(law.body, Joint):
        return _mixture(w, law, law.body, f)
    (v,) = f.outputs
    return _sampled(w.local(v), quoted(v), _site(w, f, law, v if v in w.optional else None))


WIDTH = 100


def _sampled(local: str, name: str, arguments: Sequence[str]) -> list[str]:
    """The line of a site, or three where it is long."""
    inner = ", ".join((name, *arguments))
    line = f"{local} = pyro.sample({inner})"
    return [line] if len(line) <= WIDTH else [f"{local} = pyro.sample(", f"    {inner}", ")"]


def _site(w: Writer, f: Factor, law: Law, observed: str | None) -> list[str]:
    """What a site is given behind its name."""
    called = _called(w, f, law, "old" if f.old else "")
    finite = w.facts.model.space(f.outputs[0]).kind == "finite" and not isinstance(law.body, Dirac)
    infer = [ENUMERATED] if finite else []
    if observed is None:
        return [called, *infer]
    value = w.local(observed)
    if key_of(f.law, "density") in w.attributes.laws and not f.old:
        called = f"{called} if {value} is None else {_called(w, f, law, 'density')}"
    if finite and isinstance(law.body, Distribution) and law.body.family == "Bernoulli":
        value = f"{value} if {value} is None else {value}.to(self.anchor.dtype)"  # it may be an index
    return [called, f"obs={value}", *infer]


def _called(w: Writer, f: Factor, law: Law, way: str) -> str:
    """A law at its givens; a label that is known in its branch is a constant."""
    places = {i: w.facts.model.space(law.givens[i]).values.index(value) for i, value in f.at}
    givens = [f"self.full({float(places[i])})" if isinstance(g, int) else w.local(g) for i, g in enumerate(f.arguments)]
    return f"self.{w.attributes.laws[key_of(f.law, way)]}({', '.join(givens)})"


def _mixture(
    w: Writer, law: Law, joint: Joint, f: Factor, at: str = "", shared: frozenset[str] = frozenset()
) -> list[str]:
    """The label is a site; each branch is drawn under a mask of its label, and the outputs take its values from them.

    `at` marks the sites of variables that are `shared` with other branches of a mixture around this one.
    """
    assert joint.label is not None
    label = str(law.bound(f)[joint.label]) if joint.label in law.outputs else fresh(joint.label, w.taken)
    y = w.local(label)
    lines = _sampled(y, quoted(label), [_label_law(joint), ENUMERATED])
    opened = [(b, _flat(w.facts, applied(law, f, b.factors, set(w.taken)), set(w.taken))) for b in joint.branches]
    counts = Counter(v for _, factors in opened for g in factors for v in g.outputs)
    outputs = [v for v in f.outputs if v != label]
    several = shared | {v for v, n in counts.items() if n > 1 or v in outputs}
    values: list[tuple[int, dict[str, str]]] = []
    ordered = sorted(b.value or 0 for b in joint.branches)
    for b, factors in opened:
        index = ordered.index(b.value or 0)
        inner = replace(w, values=dict(w.values))
        sites = _branch(inner, factors, several, f"{at}[{label}={b.value}]")
        lines += [f"with pyro.poutine.mask(mask={y} == {index}):", *(f"    {s}" for s in sites)] if sites else []
        values.append((index, inner.values))
    for v in outputs:
        event = len(w.facts.model.space(v).shape)
        chosen = _chosen(y, [(index, named[v]) for index, named in values], event)
        lines += _sampled(_named(w, v, at, shared), _at(v, at, shared), [f"dist.Delta({chosen}, event_dim={event})"])
    return lines


def _branch(w: Writer, factors: tuple[Factor, ...], shared: frozenset[str], at: str) -> list[str]:
    """The sites of one branch: `x[y=1]` where other branches draw x too, `z` where none does."""
    sites: list[str] = []
    for f in factors:
        law = w.facts.model.laws[f.law]
        match law.body:
            case Evidence():
                w.evidence(f, law, law.body)
            case Joint():
                sites += _mixture(w, law, law.body, f, at, shared)
            case _:
                (v,) = f.outputs
                drawn = _site(w, f, law, None)
                sites += _sampled(_named(w, v, at, shared), _at(v, at, shared), drawn)
    return sites


def _at(v: str, at: str, shared: frozenset[str]) -> str:
    """The name of a site, quoted."""
    return quoted(v + at if v in shared else v)


def _named(w: Writer, v: str, at: str, shared: frozenset[str]) -> str:
    """The local name of a value that this branch draws: `x_1` on the branch y=1."""
    marks = "_".join(part.rpartition("=")[2] for part in at.replace("]", "").split("[") if part)
    w.values[v] = w.names.of((at, v), f"{v}_{marks}" if at and v in shared else v)
    return w.values[v]


def _label_law(joint: Joint) -> str:
    branches = sorted(joint.branches, key=lambda b: b.value or 0)
    weights = [float(b.weight) for b in branches]
    if [b.value for b in branches] == [0, 1]:
        return f"dist.Bernoulli(self.full({weights[1]!r}))"
    return f"dist.Categorical(self.anchor.new_tensor({weights!r}))"


def _chosen(y: str, values: Sequence[tuple[int, str]], event: int) -> str:
    """The branch's value by the label: nested `torch.where`."""
    *first, (_, text) = values
    dims = f"[{', '.join(['...', *['None'] * event])}]" if event else ""
    for index, value in reversed(first):
        text = f"torch.where(({y} == {index}){dims}, {value}, {text})"
    return text
