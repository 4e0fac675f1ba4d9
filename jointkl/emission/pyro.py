"""Joints and laws as Pyro programs: one site per variable, named as it; evidence is an argument, never drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from jointkl.derivation.facts import Facts
from jointkl.derivation.inline import paths_of
from jointkl.derivation.players import divergences
from jointkl.derivation.rules.expand import sources
from jointkl.derivation.shifts import keys
from jointkl.emission.draws import Mixture, Product, Spec, every, opened, shifted, sizes
from jointkl.emission.formulas import data_size
from jointkl.emission.lines import Attributes
from jointkl.emission.names import MODULE, Names, key_of, law_name
from jointkl.emission.text import quoted
from jointkl.exposition.notation import factor as factor_text
from jointkl.exposition.notation import number
from jointkl.semantics.model import Branch, Dirac, Distribution, Divergence, Evidence, Factor, Joint, Law, base

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
    spec = Spec.of(facts, attributes)
    known = sizes(spec)
    found: list[Emitted] = []
    for law in facts.model.laws.values():
        if isinstance(law.body, Evidence) or known[law.key, False, False] is None:
            continue
        whole = (Factor(law.key, law.outputs, law.givens),)
        if not isinstance(law.body, Joint):
            method = members.of(("program", law.key), f"sample_{law_name(law)}")
            found.append(_program(spec, law, whole, law.key, method, f"{law.key} as a program"))
            continue
        method = members.of(("program", law.key), law_name(law))
        branches = tuple(zip(law.body.branches, spec.products[law.key], strict=True))
        if law.body.label is None:
            ((b, product),) = branches
            found.append(_program(spec, law, product, law.key, method, f"{law.key} = {_written(b)}"))
            continue
        for b, product in branches if law.body.label in law.outputs else ():
            head = ",".join((*(v for v in law.outputs if v != b.label), f"{b.label}={b.value}"))
            key = f"{law.label}({head}{'|' if law.givens else ''}{','.join(law.givens)})"
            own = members.of(("program", key), f"{method}_{b.value}")
            found.append(_program(spec, law, product, key, own, f"{key} = {_written(b)}", without=b.label))
        text = "; ".join(f"{b.label}={b.value}: {number(b.weight)} {_written(b)}" for b, _ in branches)
        found.append(_program(spec, law, whole, law.key, method, f"{law.key} = {{ {text} }}"))
    return tuple(found)


def _written(b: Branch) -> str:
    return " ".join(map(factor_text, b.factors))


@dataclass(slots=True)
class Writer:
    """Writes one program. `values` are the variables' local names, `required` and `optional` the arguments by key."""

    spec: Spec
    names: Names
    values: dict[str, str] = field(default_factory=dict[str, str])
    required: dict[str, str] = field(default_factory=dict[str, str])
    optional: dict[str, str] = field(default_factory=dict[str, str])

    def local(self, v: str) -> str:
        """The local name of a variable's value."""
        if v not in self.values:
            self.values[v] = self.names.of(v, v)
        return self.values[v]

    def law(self, f: Factor) -> Law:
        return self.spec.model.laws[f.law]

    def evidence(self, f: Factor) -> None:
        """What the program takes from a source: an argument each, named as the key in a batch."""
        for v, key in keys(self.spec.model, f).items():
            self.required[key] = self.values[v] = self.names.of(key, key)


def _program(
    spec: Spec, law: Law, factors: tuple[Factor, ...], key: str, method: str, told: str, without: str | None = None
) -> Emitted:
    """One method: globals' sites outside the plate, the others in it, the head returned by name."""
    head = tuple(v for v in law.outputs if v != without)
    w = Writer(spec, Names.without(MODULE, ("size",)))
    for g in law.givens:
        w.required[g] = w.local(g)
    seen = {*law.outputs, *law.givens, *(v for f in factors for v in f.variables)}
    product = shifted(spec.model, opened(spec, factors, seen), {})
    _arguments(w, product, law, head)
    outer: list[str] = []
    inner: list[str] = []
    for f in product:
        shared = isinstance(f, Factor) and spec.model.variable(f.outputs[0]).is_global
        own = outer if shared else inner
        own += _sites(w, f)
    returned = ", ".join(f"{quoted(v)}: {w.local(v)}" for v in head)
    local = any(not spec.model.variable(v).is_global for v in w.values if base(v) in spec.model.variables)
    lines = [
        f"    def {method}({', '.join(['self', *_signature(w, law, local)])}) -> dict[str, Tensor]:",
        f'        """{told}"""',
        *(f"        {line}" for line in outer),
    ]
    if local:
        lines += [f"        {line}" for line in _plate(w, _sources(spec, law, product) if outer else None)]
    pad = "            " if local else "        "
    lines += [*(f"{pad}{line}" for line in inner), f"{pad}return {{{returned}}}"]
    return Emitted(key, method, tuple(lines))


# --- arguments


def _arguments(w: Writer, product: Product, law: Law, head: Sequence[str]) -> None:
    """Evidence that the program needs, and values of its head that a caller may have observed.

    Those are what some evidence gives; of a law by itself its output, whatever that is.
    """
    for f in every(product):
        if isinstance(w.law(f).body, Evidence):
            w.evidence(f)
    own = [f for f in product if isinstance(f, Factor) and not isinstance(w.law(f).body, Evidence)]
    drawn = {v for f in own for v in f.outputs}
    alone = not isinstance(law.body, Joint)
    for v in _ordered(w, (v for v in head if v in drawn and (alone or v in w.spec.observable))):
        w.optional[v] = w.local(v)


def _ordered(w: Writer, keys: Iterable[str]) -> list[str]:
    """In order of declaration."""

    def place(key: str) -> tuple[int, str]:
        return w.spec.facts.order.get(base(key.rpartition(".")[2]), 0), key

    return sorted(keys, key=place)


def _signature(w: Writer, law: Law, local: bool) -> list[str]:
    """A law's givens, then evidence in order of declaration, so that the programs of two joints take it alike; None
    is what was not observed."""
    names = [*law.givens, *_ordered(w, (k for k in (*w.required, *w.optional) if k not in law.givens))]
    last = max((i for i, k in enumerate(names) if k in w.required), default=-1)
    written: list[str] = []
    for i, k in enumerate(names):
        if k in w.required:
            written.append(f"{w.required[k]}: Tensor")
        else:
            written.append(f"{w.optional[k]}: Tensor | None" + ("" if i < last else " = None"))
    return [*written, *([] if not local or _batched(w) else ["size: int = 1"])]


def _sources(spec: Spec, law: Law, product: Product) -> tuple[str, ...]:
    """The evidence laws whose size is N for a program with globals, so that those of both sides of a goal are scaled
    alike: those of its goals, else those that it takes data from, else those that give what may be observed."""
    laws = spec.model.laws
    drawn = [f.law for f in every(product)]
    own = [body.rows for key in drawn if isinstance(body := laws[key].body, Evidence)]
    goals = [t for goal in spec.model.goals for t in divergences(goal) if _draws(spec, t, drawn)]
    beside = [source for t in goals for source in sources(spec.facts, t)]
    heads = {base(v) for v in law.outputs}
    giving = [e.key for e in spec.model.evidence if not heads.isdisjoint(e.outputs)]
    return tuple(dict.fromkeys(beside or own or giving))


def _draws(spec: Spec, divergence: Divergence, drawn: Sequence[str]) -> bool:
    """Does a side of a divergence draw all that a program does?"""
    sides = (divergence.left, divergence.right)
    return any(set(drawn) <= {f.law for _, path in paths_of(spec.facts, side) for f in path} for side in sides)


def _batched(w: Writer) -> list[str]:
    """The required arguments that have one row for each datum."""
    return [name for k, name in w.required.items() if not w.spec.model.variable(k.rpartition(".")[2]).is_global]


def _plate(w: Writer, sources: tuple[str, ...] | None) -> list[str]:
    """Beside globals (`sources` not None) a batch stands for all N data: Pyro scales what is inside the plate."""
    required = _batched(w)
    rows = f"len({required[0]})" if required else "size"
    if not required:
        for name in reversed(w.optional.values()):
            rows = f"len({name}) if {name} is not None else {rows}"
    if sources is None:
        return [f'with pyro.plate("data", {rows}):']
    counted = [] if required or rows == "size" else [f"size = {rows}"]
    rows = "size" if counted else rows
    return [*counted, f'with pyro.plate("data", {data_size(sources)} or {rows}, subsample=torch.arange({rows})):']


# --- sites


def _sites(w: Writer, f: Factor | Mixture) -> list[str]:
    """The lines that draw a factor's variables. Evidence has none: it is an argument."""
    if isinstance(f, Mixture):
        return _mixture(w, f)
    if isinstance(w.law(f).body, Evidence):
        return []
    (v,) = f.outputs
    return _sampled(w.local(v), quoted(v), _site(w, f, v if v in w.optional else None))


WIDTH = 100


def _sampled(local: str, name: str, arguments: Sequence[str]) -> list[str]:
    """The line of a site, or three where it is long."""
    inner = ", ".join((name, *arguments))
    line = f"{local} = pyro.sample({inner})"
    return [line] if len(line) <= WIDTH else [f"{local} = pyro.sample(", f"    {inner}", ")"]


def _site(w: Writer, f: Factor, observed: str | None) -> list[str]:
    """What a site is given behind its name."""
    law = w.law(f)
    called = _called(w, f, "old" if f.old else "")
    finite = w.spec.model.space(f.outputs[0]).kind == "finite" and not isinstance(law.body, Dirac)
    infer = [ENUMERATED] if finite else []
    if observed is None:
        return [called, *infer]
    value = w.local(observed)
    if key_of(f.law, "density") in w.spec.attributes.laws and not f.old:
        called = f"{called} if {value} is None else {_called(w, f, 'density')}"
    if finite and isinstance(law.body, Distribution) and law.body.family == "Bernoulli":
        value = f"{value} if {value} is None else {value}.to(self.anchor.dtype)"  # it may be an index
    return [called, f"obs={value}", *infer]


def _called(w: Writer, f: Factor, way: str) -> str:
    """A law at its givens; a label that is known in its branch is a constant."""
    law = w.law(f)
    places = {i: w.spec.model.space(law.givens[i]).values.index(value) for i, value in f.at}
    givens = [f"self.full({float(places[i])})" if isinstance(g, int) else w.local(g) for i, g in enumerate(f.arguments)]
    return f"self.{w.spec.attributes.laws[key_of(f.law, way)]}({', '.join(givens)})"


def _mixture(w: Writer, m: Mixture, at: str = "", shared: frozenset[str] = frozenset()) -> list[str]:
    """The label is a site; each branch is drawn under a mask of its label, and the outputs take its values from them.

    `at` marks the sites of variables that are `shared` with other branches of a mixture around this one.
    """
    y = _named(w, m.label, at, shared)
    lines = _sampled(y, _at(m.label, at, shared), [_label_law(m.joint), ENUMERATED])
    outputs = [v for v in m.factor.outputs if v != m.label]
    counts = Counter(v for _, product in m.branches for v in _generated(product))
    several = shared | {v for v, n in counts.items() if n > 1 or v in outputs}
    values: list[tuple[int, dict[str, str]]] = []
    ordered = sorted(b.value or 0 for b in m.joint.branches)
    for b, product in m.branches:
        index = ordered.index(b.value or 0)
        inner = replace(w, values=dict(w.values))
        sites = _branch(inner, product, several, f"{at}[{m.label}={b.value}]")
        lines += [f"with pyro.poutine.mask(mask={y} == {index}):", *(f"    {s}" for s in sites)] if sites else []
        values.append((index, inner.values))
    for v in outputs:
        event = len(w.spec.model.space(v).shape)
        name = _named(w, v, at, shared)
        made, chosen = _chosen(name, y, [(index, named[v]) for index, named in values], event)
        lines += [*made, *_sampled(name, _at(v, at, shared), [f"dist.Delta({chosen}, event_dim={event})"])]
    return lines


def _generated(product: Product) -> Iterator[str]:
    """The variables that have sites in a branch, or values there: those of mixtures inside it, and their labels."""
    for f in product:
        if isinstance(f, Factor):
            yield from f.outputs
            continue
        yield from {f.label, *f.factor.outputs, *(v for _, inner in f.branches for v in _generated(inner))}


def _branch(w: Writer, product: Product, shared: frozenset[str], at: str) -> list[str]:
    """The sites of one branch: `x[y=1]` where other branches draw x too, `z` where none does."""
    sites: list[str] = []
    for f in product:
        if isinstance(f, Mixture):
            sites += _mixture(w, f, at, shared)
        elif isinstance(w.law(f).body, Evidence):
            w.evidence(f)
        else:
            (v,) = f.outputs
            drawn = _site(w, f, None)
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


def _chosen(name: str, y: str, values: Sequence[tuple[int, str]], event: int) -> tuple[list[str], str]:
    """The branch's value by the label, `torch.where`: an expression for two branches, line by line for more."""
    dims = f"[{', '.join(['...', *['None'] * event])}]" if event else ""
    *first, (_, last) = values
    if len(first) == 1:
        ((index, value),) = first
        return [], f"torch.where(({y} == {index}){dims}, {value}, {last})"
    chosen = [f"{name} = torch.where(({y} == {index}){dims}, {value}, {name})" for index, value in reversed(first)]
    return [f"{name} = {last}", *chosen], name
