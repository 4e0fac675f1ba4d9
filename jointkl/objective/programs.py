"""What Pyro programs draw: products opened, mixtures as factors of them; and which laws have programs at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from jointkl.derivation.facts import Facts
from jointkl.derivation.inline import MOST_PATHS, Paths, applied, paths_of, products
from jointkl.derivation.players import divergences
from jointkl.derivation.rules.expand import sources
from jointkl.derivation.shifts import Taken, apart, keys
from jointkl.derivation.variables import fresh
from jointkl.exposition.notation import factor as factor_text
from jointkl.exposition.notation import number
from jointkl.objective import sites
from jointkl.objective.ir import function_key
from jointkl.objective.sites import Drawn, Passed, Program, Site, Supplied
from jointkl.semantics.model import Branch, Dirac, Distribution, Divergence, Evidence, Factor, Joint, Law, Model, base

MOST_NESTED = 16
"""Mixtures stand no deeper in mixtures than this: Python nests 20 blocks."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What all programs are made from: the laws that have `functions`, each joint's branches, opened but for the
    mixtures in them, and the variables that some evidence gives."""

    facts: Facts
    functions: frozenset[str]
    products: Mapping[str, Paths]
    observable: frozenset[str]
    sides: tuple[tuple[frozenset[str], tuple[str, ...]], ...]
    """Of the divergences of all goals the laws that a side draws, and the sources whose size is N; none without
    globals."""

    @property
    def model(self) -> Model:
        return self.facts.model


def programs(facts: Facts, functions: Iterable[str]) -> tuple[Program, ...]:
    """A program for each joint and each law that can be drawn; a labelled mixture has one for each branch too."""
    observable = frozenset(v for law in facts.model.evidence for v in law.outputs)
    has_globals = any(v.is_global for v in facts.model.variables.values())
    goals = facts.model.goals if has_globals else ()
    sides = tuple(side for goal in goals for t in divergences(goal) for side in _sides(facts, t))
    spec = Spec(facts, frozenset(functions), products(facts), observable, sides)
    known = _sizes(spec)
    found: list[Program] = []
    for law in facts.model.laws.values():
        if isinstance(law.body, Evidence) or known[law.key, False, False] is None:
            continue
        whole = (Factor(law.key, law.outputs, law.givens),)
        if not isinstance(law.body, Joint):
            found.append(_program(spec, law, whole, law.key, f"{law.key} as a program"))
            continue
        branches = tuple(zip(law.body.branches, spec.products[law.key], strict=True))
        if law.body.label is None:
            ((b, product),) = branches
            found.append(_program(spec, law, product, law.key, f"{law.key} = {_written(b)}"))
            continue
        for b, product in branches if law.body.label in law.outputs else ():
            head = ",".join((*(v for v in law.outputs if v != b.label), f"{b.label}={b.value}"))
            key = f"{law.label}({head}{'|' if law.givens else ''}{','.join(law.givens)})"
            found.append(_program(spec, law, product, key, f"{key} = {_written(b)}", b))
        text = "; ".join(f"{b.label}={b.value}: {number(b.weight)} {_written(b)}" for b, _ in branches)
        found.append(_program(spec, law, whole, law.key, f"{law.key} = {{ {text} }}"))
    return tuple(found)


def _written(b: Branch) -> str:
    return " ".join(map(factor_text, b.factors))


def _program(
    spec: Spec, law: Law, factors: tuple[Factor, ...], key: str, told: str, branch: Branch | None = None
) -> Program:
    head = tuple(v for v in law.outputs if branch is None or v != branch.label)
    seen = {*law.outputs, *law.givens, *(v for f in factors for v in f.variables)}
    product = _shifted(spec.model, _opened(spec, factors, seen), {})
    drawn = tuple(_drawn(spec, f) for f in product)
    shared = any(isinstance(d, Site) and d.shared for d in drawn)
    return Program(
        law,
        key,
        told,
        _arguments(spec, law, head, drawn),
        drawn,
        head,
        None if branch is None else branch.value,
        _sources(spec, law, product) if shared else None,
        any(not spec.model.variable(v).is_global for v in _values(law, drawn) if base(v) in spec.model.variables),
    )


def _values(law: Law, drawn: Iterable[Drawn]) -> Iterator[str]:
    """The variables that a program has values of."""
    yield from law.givens
    for d in sites.every(drawn):
        if isinstance(d, Supplied):
            yield from (v for v, _ in d.keys)
    for d in drawn:
        if isinstance(d, Site):
            yield d.variable
        elif isinstance(d, sites.Mixture):
            yield from (d.label, *(v for v, _ in d.outputs))


def _arguments(spec: Spec, law: Law, head: Sequence[str], drawn: Sequence[Drawn]) -> tuple[Passed, ...]:
    """A law's givens, then, in order of declaration, so that the programs of two joints take it alike, the evidence
    that the program needs, and values of its head that a caller may have observed.

    Those are what some evidence gives; of a law by itself its output, whatever that is.
    """
    model, order = spec.model, spec.facts.order
    required = {key for d in sites.every(drawn) if isinstance(d, Supplied) for _, key in d.keys}
    own = {d.variable for d in drawn if isinstance(d, Site)}
    alone = not isinstance(law.body, Joint)
    optional = {v for v in head if v in own and (alone or v in spec.observable)} - required

    def place(key: str) -> tuple[int, str]:
        return order.get(base(key.rpartition(".")[2]), 0), key

    behind = sorted((required | optional) - {*law.givens}, key=place)
    return tuple(
        Passed(key, key not in optional, model.variable(key.rpartition(".")[2]).is_global)
        for key in (*law.givens, *behind)
    )


def _sources(spec: Spec, law: Law, product: Product) -> tuple[str, ...]:
    """The evidence laws whose size is N for a program with globals, so that those of both sides of a goal are scaled
    alike: those of its goals, else those that it takes data from, else those that give what may be observed."""
    laws = spec.model.laws
    drawn = [f.law for f in _every(product)]
    own = [body.rows for key in drawn if isinstance(body := laws[key].body, Evidence)]
    beside = [source for side, known in spec.sides if side.issuperset(drawn) for source in known]
    heads = {base(v) for v in law.outputs}
    giving = [e.key for e in spec.model.evidence if not heads.isdisjoint(e.outputs)]
    return tuple(dict.fromkeys(beside or own or giving))


def _sides(facts: Facts, divergence: Divergence) -> Iterator[tuple[frozenset[str], tuple[str, ...]]]:
    """The laws that stand on the paths of each side of a divergence, and its sources."""
    known = sources(facts, divergence)
    for side in (divergence.left, divergence.right):
        yield frozenset(f.law for _, path in paths_of(facts, side) for f in path), known


# --- which laws have programs

Size = tuple[int, int]
"""How deep mixtures stand in mixtures, and how many branches they have."""


def _sizes(spec: Spec) -> Mapping[tuple[str, bool, bool], Size | None]:
    """By law, whether it is read at the snapshot, and whether it stands inside a mixture: what its program holds.

    None where it has none: what it draws has no distribution, or is a global inside a mixture, or is too much.
    """
    found: dict[tuple[str, bool, bool], Size | None] = {}
    for key in spec.facts.feeds:  # what a joint holds stands before it
        for old in (False, True):
            for inside in (False, True):
                found[key, old, inside] = _size(spec, found, spec.model.laws[key], old, inside)
    return found


def _size(
    spec: Spec, known: Mapping[tuple[str, bool, bool], Size | None], law: Law, old: bool, inside: bool
) -> Size | None:
    if not isinstance(law.body, Joint):
        drawn = isinstance(law.body, Evidence) or function_key(law.key, "old" if old else "") in spec.functions
        shared = any(spec.model.variable(v).is_global for v in law.outputs)
        return None if not drawn or (inside and shared) else (0, 0)
    mixed = law.body.label is not None
    depth, branches = int(mixed), 0
    for product in spec.products[law.key]:
        branches += mixed
        for f in product:
            size = known[f.law, f.old or old, inside or mixed]
            if size is None:
                return None
            depth, branches = max(depth, size[0] + mixed), branches + size[1]
    return None if depth > MOST_NESTED or (depth > 1 and branches > MOST_PATHS) else (depth, branches)


# --- products opened


@dataclass(frozen=True, slots=True)
class Mixture:
    """A mixture among the factors of a product: its label here, and what its branches draw."""

    factor: Factor
    joint: Joint
    label: str
    branches: tuple[tuple[Branch, Product], ...]


Product = tuple["Factor | Mixture", ...]


def _opened(spec: Spec, factors: Iterable[Factor], taken: set[str]) -> Product:
    """Mixtures opened where they stand, their hidden variables renamed apart from `taken`, which they then are too.

    The branches of one mixture may share names.
    """
    found: list[Factor | Mixture] = []
    for f in factors:
        law = spec.model.laws[f.law]
        if not isinstance(law.body, Joint):
            found.append(f)
            continue
        assert law.body.label is not None
        label = str(law.bound(f)[law.body.label]) if law.body.label in law.outputs else fresh(law.body.label, taken)
        branches: list[tuple[Branch, Product]] = []
        beside = frozenset(taken)
        for b, product in zip(law.body.branches, spec.products[law.key], strict=True):
            own = set(beside)
            inner = tuple(applied(law, f, product, own))
            branches.append((b, _opened(spec, inner, own)))
            taken |= own
        found.append(Mixture(f, law.body, label, tuple(branches)))
    return tuple(found)


def _shifted(model: Model, product: Product, taken: Taken) -> Product:
    """The evidence of a product with its shifts: a branch's beside those of what stands before its mixture."""
    found: list[Factor | Mixture] = []
    for f in product:
        if isinstance(f, Factor):
            found.append(apart(model, f, taken))
            continue
        branches: list[tuple[Branch, Product]] = []
        before = {rows: frozenset(shifts) for rows, shifts in taken.items()}
        for b, inner in f.branches:
            own = {rows: set(shifts) for rows, shifts in before.items()}
            branches.append((b, _shifted(model, inner, own)))
            for rows, shifts in own.items():
                taken.setdefault(rows, set()).update(shifts)
        found.append(replace(f, branches=tuple(branches)))
    return tuple(found)


def _every(product: Product) -> Iterator[Factor]:
    """All that is drawn, mixtures' branches included."""
    for f in product:
        if isinstance(f, Factor):
            yield f
            continue
        for _, inner in f.branches:
            yield from _every(inner)


def _drawn(spec: Spec, f: Factor | Mixture) -> Drawn:
    model = spec.model
    if isinstance(f, Mixture):
        branches = sorted(f.joint.branches, key=lambda b: b.value or 0)
        outputs = tuple((v, len(model.space(v).shape)) for v in f.factor.outputs if v != f.label)
        inner = tuple((b.value or 0, tuple(_drawn(spec, g) for g in product)) for b, product in f.branches)
        values, shares = tuple(b.value or 0 for b in branches), tuple(float(b.weight) for b in branches)
        return sites.Mixture(f.label, values, shares, outputs, inner)
    law = model.laws[f.law]
    if isinstance(law.body, Evidence):
        return Supplied(tuple(keys(model, f).items()))
    (v,) = f.outputs
    places = {i: model.space(law.givens[i]).values.index(value) for i, value in f.at}
    observed = function_key(f.law, "density")
    space = model.space(v)
    return Site(
        v,
        space,
        function_key(f.law, "old" if f.old else ""),
        tuple(float(places[i]) if isinstance(g, int) else g for i, g in enumerate(f.arguments)),
        observed if observed in spec.functions and not f.old else "",
        law.body.family if isinstance(law.body, Distribution) else "",
        space.kind == "finite" and not isinstance(law.body, Dirac),
        model.variable(v).is_global,
    )
