"""What a Pyro program draws: products opened, mixtures as factors of them; and which laws have programs at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from jointkl.derivation.facts import Facts, fresh
from jointkl.derivation.inline import MOST_PATHS, Paths, applied, products
from jointkl.derivation.shifts import Taken, apart
from jointkl.emission.lines import Attributes
from jointkl.emission.names import key_of
from jointkl.semantics.model import Branch, Evidence, Factor, Joint, Law, Model

MOST_NESTED = 16
"""Mixtures stand no deeper in mixtures than this: Python nests 20 blocks."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What all programs are written from: `products` are each joint's branches, opened but for the mixtures in them;
    `observable` the variables that some evidence gives."""

    facts: Facts
    attributes: Attributes
    products: Mapping[str, Paths]
    observable: frozenset[str]

    @classmethod
    def of(cls, facts: Facts, attributes: Attributes) -> Spec:
        observable = frozenset(v for law in facts.model.evidence for v in law.outputs)
        return cls(facts, attributes, products(facts), observable)

    @property
    def model(self) -> Model:
        return self.facts.model


Size = tuple[int, int]
"""How deep mixtures stand in mixtures, and how many branches they have."""


def sizes(spec: Spec) -> Mapping[tuple[str, bool, bool], Size | None]:
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
        drawn = isinstance(law.body, Evidence) or key_of(law.key, "old" if old else "") in spec.attributes.laws
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


@dataclass(frozen=True, slots=True)
class Mixture:
    """A mixture among the factors of a product: its label here, and what its branches draw."""

    factor: Factor
    joint: Joint
    label: str
    branches: tuple[tuple[Branch, Product], ...]


Product = tuple["Factor | Mixture", ...]


def opened(spec: Spec, factors: Iterable[Factor], taken: set[str]) -> Product:
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
            branches.append((b, opened(spec, inner, own)))
            taken |= own
        found.append(Mixture(f, law.body, label, tuple(branches)))
    return tuple(found)


def shifted(model: Model, product: Product, taken: Taken) -> Product:
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
            branches.append((b, shifted(model, inner, own)))
            for rows, shifts in own.items():
                taken.setdefault(rows, set()).update(shifts)
        found.append(replace(f, branches=tuple(branches)))
    return tuple(found)


def every(product: Product) -> Iterator[Factor]:
    """All that is drawn, mixtures' branches included."""
    for f in product:
        if isinstance(f, Factor):
            yield f
            continue
        for _, inner in f.branches:
            yield from every(inner)
