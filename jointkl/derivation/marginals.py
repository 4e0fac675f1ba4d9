"""Log densities of products as atoms: hidden variables integrated out, each marginal known by what it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from hashlib import blake2b

from jointkl.derivation import density_errors
from jointkl.derivation.expr import LogFactor, LogMarginal, Share, Term
from jointkl.derivation.facts import Facts
from jointkl.derivation.inline import is_joint, opened, paths
from jointkl.derivation.variables import variable
from jointkl.diagnostics import Refused
from jointkl.semantics.model import Evidence, Factor, Joint, Law, Side, law_key, law_text


def log_density(facts: Facts, factors: tuple[Factor, ...], head: Iterable[str], weight: Fraction) -> tuple[Term, ...]:
    """weight * log of a product, all but `head` integrated out, as atoms.

    A joint without branches gives its factors; a mixture stays in one atom.
    """
    visible = frozenset(head)
    flat = _flattened(facts, factors)
    needed = _narrowed(facts, _without_leaves(flat, visible), visible)
    hidden = frozenset(v for f in needed for v in f.outputs) - visible
    terms: list[Term] = []
    for component in _components(needed, hidden):
        first = component[0]
        inside = frozenset(v for f in component for v in f.outputs) & hidden
        if not inside and not is_joint(facts, first):
            terms.append(Term(weight, LogFactor(first), span=first.span))
        else:
            terms.append(Term(weight, marginal(facts, component, inside), span=first.span))
    return tuple(terms)


def _flattened(facts: Facts, factors: tuple[Factor, ...]) -> tuple[Factor, ...]:
    """Joints of one branch replaced by their factors."""
    taken = {v for f in factors for v in f.variables}
    found: list[Factor] = []
    pending = list(reversed(factors))
    while pending:
        f = pending.pop()
        body = facts.model.laws[f.law].body
        if isinstance(body, Joint) and len(body.branches) == 1 and body.label is None:
            inner = opened(facts, f, taken)[0][1]
            taken.update(v for g in inner for v in g.variables)
            pending += reversed(inner)
        else:
            found.append(facts.current(f))
    return tuple(found)


def _without_leaves(factors: tuple[Factor, ...], visible: frozenset[str]) -> tuple[Factor, ...]:
    """A hidden factor nobody conditions on integrates to one."""
    uses: dict[str, int] = {}
    for f in factors:
        for v in f.givens:
            uses[v] = uses.get(v, 0) + 1
    makers = {v: f for f in factors for v in f.outputs}
    dropped: set[tuple[str, ...]] = set()
    pending = list(factors)
    while pending:
        f = pending.pop()
        if f.outputs in dropped or any(v in visible or uses.get(v, 0) for v in f.outputs):
            continue
        dropped.add(f.outputs)
        for v in f.givens:
            uses[v] -= 1
            if not uses[v] and v in makers:
                pending.append(makers[v])
    return tuple(f for f in factors if f.outputs not in dropped)


def _narrowed(facts: Facts, factors: tuple[Factor, ...], visible: frozenset[str]) -> tuple[Factor, ...]:
    """Evidence as the first law of the model over those of its columns that anybody uses: data(a,b) as data(a) where b
    is integrated out, data(b,a) as data(a,b). Without such a law it stays as it is."""
    used = visible.union(*(f.givens for f in factors))
    declared = [(law.key, law.body) for law in facts.model.laws.values() if isinstance(law.body, Evidence)]
    found: list[Factor] = []
    for f in factors:
        body = facts.model.laws[f.law].body
        if isinstance(body, Evidence):
            wanted = {column: v for column, v in zip(body.columns, f.outputs, strict=True) if v in used}
            same = ((k, b.columns) for k, b in declared if b.rows == body.rows and set(b.columns) == set(wanted))
            key, columns = next(same, (f.law, body.columns))
            f = f if key == f.law else Factor(key, tuple(wanted[c] for c in columns), span=f.span)
        found.append(f)
    return tuple(found)


def _components(factors: tuple[Factor, ...], hidden: frozenset[str]) -> tuple[tuple[Factor, ...], ...]:
    """Factors connected through hidden variables, in the order of their first."""
    root = list(range(len(factors)))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    first: dict[str, int] = {}
    for i, f in enumerate(factors):
        for v in f.variables:
            if v in hidden:
                a, b = find(first.setdefault(v, i)), find(i)
                root[max(a, b)] = min(a, b)
    groups: dict[int, list[Factor]] = {}
    for i, f in enumerate(factors):
        groups.setdefault(find(i), []).append(f)
    return tuple(tuple(g) for _, g in sorted(groups.items()))


def marginal(facts: Facts, component: tuple[Factor, ...], hidden: frozenset[str]) -> LogMarginal:
    """One atom log M of a connected component; mixtures inside become its branches. It may be given a global."""
    for f in component:
        for v in f.outputs:
            if facts.model.variable(v).is_global:
                raise Refused(density_errors.marginal_over_global(f.span, v, facts.model.variable(v).span))
    made = [v for f in component for v in f.outputs]
    outputs = tuple(v for v in made if v not in hidden)
    givens = tuple(dict.fromkeys(v for f in component for v in f.givens if v not in made))
    branches = paths(facts, component)
    inside = frozenset(v for _, fs in branches for f in fs for v in f.outputs) - frozenset(outputs)
    old = any(f.old for f in component) and not any(map(facts.trained, component))
    found = LogMarginal(outputs, givens, branches, inside, canonical(facts, branches, inside), "", old)
    return _named(facts, component, found)


def mixture(facts: Facts, side: Side) -> LogMarginal:
    """One atom log M of a side that is a hidden mixture."""
    opened = tuple((b.weight * w, path) for b in side.joint.branches for w, path in paths(facts, b.factors))
    hidden = frozenset(v for _, fs in opened for f in fs for v in f.outputs) - frozenset(side.head)
    return LogMarginal(side.head, (), opened, hidden, canonical(facts, opened, hidden), side.text)


def _named(facts: Facts, component: tuple[Factor, ...], m: LogMarginal) -> LogMarginal:
    """With the name of a law that the spec defines so, applied in its order; else with that of the one label of its
    factors or of those that generate what is left, unless that name is another law's; else with none, as where some
    factors are old and others are not."""
    if any(f.old for f in component) and any(map(facts.trained, component)):
        return m
    for law in facts.model.laws.values():
        f = _over(law, m)
        if f is not None and facts.identity(law.key, lambda f=f: _defined(facts, f)) == _identity(facts, m, f):
            return replace(m, outputs=f.outputs, givens=f.givens, name=law.text)
    for among in (component, [f for f in component if not set(f.outputs).isdisjoint(m.outputs)]):
        labels = {facts.model.laws[f.law].label for f in among}
        label, alone = next(iter(labels)), len(labels) == 1
        key, own = law_key(label, m.outputs, m.givens), _identity(facts, m, Factor("", m.outputs, m.givens))
        if alone and key not in facts.model.laws and facts.identity(key, lambda own=own: own) == own:
            return replace(m, name=law_text(label, m.outputs, m.givens))
    return m


def _over(law: Law, m: LogMarginal) -> Factor | None:
    """A joint, or a marginal of evidence, applied to the variables of `m`; None where it is over others."""
    if not isinstance(law.body, Joint | Evidence) or (isinstance(law.body, Joint) and law.body.label in law.outputs):
        return None
    outputs, givens = _matched(law.outputs, m.outputs), _matched(law.givens, m.givens)
    return None if outputs is None or givens is None else Factor(law.key, outputs, givens)


def _matched(wanted: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...] | None:
    """The names in the order of the law's own, of which they are copies."""
    left = list(names)
    for v in wanted:
        found = next((name for name in left if variable(name).name == variable(v).name), None)
        if found is None:
            return None
        left = [*(name for name in left if name != found), found]
    return tuple(left) if len(wanted) == len(names) else None


def _defined(facts: Facts, f: Factor) -> tuple[object, ...] | None:
    """What a law is, as `_identity` tells it; None where it cannot be opened."""
    try:
        branches = paths(facts, (f,))
    except Refused:
        return None
    hidden = frozenset(v for _, fs in branches for g in fs for v in g.outputs) - frozenset(f.outputs)
    return _identity(facts, LogMarginal(f.outputs, f.givens, branches, hidden, (), ""), f)


def _identity(facts: Facts, m: LogMarginal, f: Factor) -> tuple[object, ...]:
    """Equal for marginals that are one law, whichever copies of its variables it is applied to and at which snapshot:
    `f` has these in the law's order."""
    names = {v: f"#{i}" for i, v in enumerate(f.variables)}
    opened = tuple((w, tuple(replace(g.applied(names), old=False) for g in fs)) for w, fs in m.branches)
    return canonical(facts, opened, m.hidden)


def canonical(facts: Facts, branches: tuple[Share, ...], hidden: frozenset[str]) -> tuple[object, ...]:
    """Equal for mixtures of products that are equal up to hidden names, what is drawn and not used, factor order and
    branch order.

    Each hidden variable is named by what generates it (upwards) and by what is generated from it (downwards).
    """
    shares: dict[str, Fraction] = {}
    for share, factors in branches:
        visible = frozenset(v for f in factors for v in f.outputs) - hidden
        branch = _canonical(facts, _without_leaves(factors, visible), hidden)
        shares[branch] = shares.get(branch, Fraction(0)) + share
    return tuple(sorted((branch, str(share)) for branch, share in shares.items()))


def _canonical(facts: Facts, factors: tuple[Factor, ...], hidden: frozenset[str]) -> str:
    laws = {f: _law(facts, f) for f in factors}
    up: dict[str, str] = {}
    for f in factors:
        for i, v in zip(_places(facts, f), f.outputs, strict=True):
            up[v] = _digest(laws[f], i, f.at, [up.get(g, g) for g in f.givens]) if v in hidden else v
    down: dict[str, list[str]] = {v: [] for v in hidden}
    for f in reversed(factors):
        below = [_digest(sorted(down[v])) if v in hidden else v for v in f.outputs]
        for i, g in enumerate(f.givens):
            if g in hidden:
                others = [up.get(v, v) for v in f.givens]
                down[g].append(_digest(laws[f], i, f.at, others, [up.get(v, v) for v in f.outputs], below))
    names = {v: _digest(up[v], sorted(down[v])) if v in hidden else v for v in {*up, *hidden} if v in up}
    used = {v for f in factors for v in f.givens}
    rows: list[str] = []
    for f in factors:
        outputs = [
            (i, names.get(v, v))
            for i, v in zip(_places(facts, f), f.outputs, strict=True)
            if not (_is_data(facts, f) and v in hidden and v not in used)  # a column that nobody reads
        ]
        rows.append(_digest(laws[f], f.at, sorted(outputs), [names.get(v, v) for v in f.givens]))
    return _digest(sorted(rows))


def _is_data(facts: Facts, f: Factor) -> bool:
    return isinstance(facts.model.laws[f.law].body, Evidence)


def _law(facts: Facts, f: Factor) -> tuple[str, bool]:
    """The law of a factor; of evidence the one whose rows it draws, since its columns are known by `_places`."""
    body = facts.model.laws[f.law].body
    return (body.rows if isinstance(body, Evidence) else f.law, f.old)


def _places(facts: Facts, f: Factor) -> tuple[int, ...]:
    """The place of each output in its law; for evidence its column among those of the source."""
    body = facts.model.laws[f.law].body
    return body.columns if isinstance(body, Evidence) else tuple(range(len(f.outputs)))


def _digest(*parts: object) -> str:
    return blake2b(repr(parts).encode(), digest_size=12).hexdigest()
