"""Strategies: random well-posed specs over small finite spaces that nobody has named.

Every draw is a `Spec`; a counter-example is noted as .jkl.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

from hypothesis import strategies as st

from tests.properties.specs import (
    Branch,
    Distribution,
    Divergence,
    Evidence,
    Factor,
    Goal,
    Joint,
    Law,
    Spec,
    Var,
)

SPACES = (("{0, 1}", 2), ("{0..2}", 3), ("{0, 1}", 2), ("{2, 5}", 2), ("binary", 2), ("binary[2]", 4))
NAMES = "x z t u w s"
SHARES = ((None, None), (Fraction(3, 10), Fraction(7, 10)), (Fraction(1, 4), Fraction(3, 4)))

Draw = Callable[[st.SearchStrategy], object]


@dataclass
class Making:
    """A spec as it is drawn. `draw` is hypothesis's."""

    draw: Draw
    variables: list[Var] = field(default_factory=list)
    laws: dict[str, Law] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    nets: dict[str, str] = field(default_factory=dict)

    def choice(self, *options):
        return self.draw(st.sampled_from(options))

    def flag(self, often: int = 1, of: int = 2) -> bool:
        """True `often` times of `of`; shrinks to False."""
        return self.draw(st.integers(0, of - 1)) >= of - often

    def spec(self, *goals: Goal, classifiers: tuple[str, ...] = ()) -> Spec:
        used = {n for v in self.variables for n in (v.name,)}
        variables = tuple(v for v in self.variables if v.name in used)
        return Spec(
            variables, tuple(self.laws.values()), goals, tuple(self.params.items()), tuple(self.nets.items()),
            classifiers=classifiers,
        )  # fmt: skip

    # --- variables

    def variable(self, spaces=SPACES) -> str:
        taken = {v.name for v in self.variables}
        name = next(n for n in NAMES.split() if n not in taken)
        self.variables.append(Var(name, *self.choice(*spaces)))
        return name

    def head(self, least: int = 1, most: int = 3) -> list[str]:
        """Some variables, of at most 27 joint values."""
        count = self.draw(st.integers(least, most))
        while count and math.prod(v.size for v in self.variables) <= (6 if count > 1 else 9):
            self.variable()
            count -= 1
        while len(self.variables) < least:
            self.variable((("{0, 1}", 2),))
        return [v.name for v in self.variables]

    def space(self, name: str) -> Var:
        return next(v for v in self.variables if v.name == name.rstrip("'"))

    # --- laws

    def factor(self, label: str, output: str, givens: tuple[str, ...], constant: bool = True) -> Factor:
        """A law of one variable, drawn if there is none of these yet."""
        law = Law(label, (output,), givens, Distribution("", "", ""))
        if law.key not in self.laws:
            self.laws[law.key] = replace(law, body=self.distribution(output, givens, constant))
        return Factor(law.key, (output,), givens)

    def distribution(self, output: str, givens: tuple[str, ...], constant: bool = True) -> Distribution:
        var = self.space(output)
        binary = var.kind == "binary"
        family = "Bernoulli" if binary else "Categorical"
        if var.space == "{0, 1}":
            family = self.choice("Categorical", "Bernoulli")
        ways = ["table"] if all(self.space(g).kind == "finite" for g in givens) else []
        ways += ["net"] if givens else []
        ways += ["constant"] if constant else []
        match self.choice(*ways):
            case "constant":
                return self.constant(var, family)
            case "net":
                return self.network(family, givens)
            case _:
                return self.table(var, family, givens)

    def constant(self, var: Var, family: str) -> Distribution:
        if family == "Bernoulli":
            p = self.choice(0.3, 0.5, 0.8)
            if var.space == "binary[2]" and self.flag():
                return Distribution(f"Bernoulli([{p}, 0.6])", family, "constant", numbers=(p, 0.6))
            return Distribution(f"Bernoulli({p})", family, "constant", numbers=(p,))
        if self.flag():
            return Distribution("Categorical()", family, "constant", numbers=(1 / var.size,) * var.size)
        numbers = {2: (0.25, 0.75), 3: (0.2, 0.5, 0.3)}[var.size]
        return Distribution(f"Categorical({list(numbers)})", family, "constant", numbers=numbers)

    def network(self, family: str, givens: tuple[str, ...]) -> Distribution:
        name = f"{'EFGHKLMN'[len(self.nets) % 8]}{len(self.nets) // 8 or ''}"
        self.nets[name] = self.choice("linear()", "mlp(3)", "linear(bias=false)", 'mlp(3, activation="tanh")')
        call = f"{name}({','.join(givens)})"
        text = self.choice(f"{family}({call})", f"{family}(logits={call})")
        return Distribution(text, family, "net", name)

    def table(self, var: Var, family: str, givens: tuple[str, ...]) -> Distribution:
        name = f"w{len(self.params) + 1}"
        indexed = f"{name}[{','.join(givens)}]" if givens else name
        own = {"Categorical": (var.size,), "Bernoulli": (2,) if var.space == "binary[2]" else ()}[family]
        dims = (*(self.space(g).size for g in givens), *own)
        form = self.choice("logits", "mapped", "probs")
        if form == "probs":
            kind = "simplex" if family == "Categorical" else "unit"
            text = f"{family}({indexed})"
        else:
            kind = "real"
            mapping = "softmax" if family == "Categorical" else "sigmoid"
            text = f"{family}({mapping}({indexed}))" if form == "mapped" else f"{family}(logits={indexed})"
        self.params[name] = kind + (f"[{','.join(map(str, dims))}]" if dims else "")
        return Distribution(text, family, "table", name, "probs" if form == "probs" else "logits")

    def evidence(self, label: str, outputs: tuple[str, ...]) -> Factor:
        key = f"{label}({','.join(outputs)})"
        if key not in self.laws:
            size = math.prod(self.space(v).size for v in outputs)
            counts = self.draw(st.lists(st.integers(1, 4), min_size=size, max_size=size))
            self.laws[key] = Law(label, outputs, (), Evidence(tuple(counts)))
        return Factor(key, outputs)

    # --- products

    def product(self, variables: list[str], labels: str, roots: tuple[Factor, ...] = ()) -> list[Factor]:
        """A random factorisation of `variables`: each given some that come before it, `roots` first."""
        made = [v for f in roots for v in f.outputs]
        rest = self.draw(st.permutations([v for v in variables if v not in made]))
        factors = list(roots)
        for v in rest:
            givens = tuple(g for g in made if self.flag())[-2:]
            factors.append(self.factor(self.choice(*labels), v, givens))
            made.append(v)
        return factors

    def named(self, label: str, head: tuple[str, ...], factors: list[Factor]) -> Factor:
        """A joint with a name, what it generates beyond its head hidden."""
        key = f"{label}({','.join(head)})"
        assert key not in self.laws, key
        self.laws[key] = Law(label, head, (), Joint((Branch(tuple(factors)),)))
        return Factor(key, head)

    def nested(self, label: str, factors: list[Factor]) -> list[Factor]:
        """Some factors that need nothing of the others as one joint of their own."""
        count = self.draw(st.integers(1, len(factors)))
        inner = factors[:count]
        head = tuple(v for f in inner for v in f.outputs)
        key = f"{label}({','.join(head)})"
        if key in self.laws or any(isinstance(self.laws[f.law].body, Joint) for f in inner):
            return factors
        return [self.named(label, head, inner), *factors[count:]]

    def side(self, label: str, head: tuple[str, ...], factors: list[Factor]) -> tuple[Factor, ...]:
        """A product as it is, or as a named joint."""
        generated = {v for f in factors for v in f.outputs}
        if generated == set(head) and self.flag():
            return tuple(factors)
        return (self.named(label, head, factors),)

    def weight(self) -> Fraction:
        return self.choice(Fraction(1), Fraction(1), Fraction(2), Fraction(1, 3), Fraction(5, 2))


# --- divergences of which everything can be evaluated


@st.composite
def likelihoods(draw: Draw, hidden: bool = False, name: str = "KL") -> Spec:
    """KL(P || Q) or CE(P || Q) of two random factorisations; P may start from evidence, which no law of Q is.

    Joints stand inside others, laws are shared by both sides, Q may be scaled; `hidden` variables on either side.
    """
    m = Making(draw)
    head = m.head(1 + hidden, 3)
    goal = m_divergence(m, head, name, hidden)
    return m.spec(goal)


def m_divergence(m: Making, head: list[str], name: str, hidden: bool, roots: tuple[Factor, ...] | None = None) -> Goal:
    if roots is None:
        known = tuple(head[: m.draw(st.integers(0, min(2, len(head))))])
        roots = (m.evidence("data", known),) if known and not hidden else ()
    left = m.product(head, "pqr", roots)
    right = m.product(head, "qpr")
    if hidden:
        inside = m.variable((("{0, 1}", 2), ("{0..2}", 3)))
        chosen = m.choice("right", "left", "both")
        if chosen in ("left", "both"):
            left = m.product([*head, inside], "pr", roots)
        if chosen in ("right", "both"):
            right = m.product([*head, inside], "qr")
    shown = [v for v in head]
    if m.flag(1, 3):
        left = m.nested("g", left)
    if m.flag(1, 3):
        right = m.nested("h", right)
    order = tuple(m.draw(st.permutations(shown)))
    return Goal(
        (Divergence(name, m.side("a", tuple(shown), left), m.side("b", order, right), m.weight()),)
    )  # fmt: skip


# --- labelled mixtures and classifiers


@st.composite
def mixtures(draw: Draw, evaluable: bool = False, options: tuple[str, ...] = ()) -> Spec:
    """KL of a labelled mixture from a reference times a classifier.

    The branches are random factorisations of the same variables, some of which may be hidden in one branch; the
    reference is one of the branches, or (`evaluable`) a product of its own without evidence.
    """
    m = Making(draw)
    head = tuple(m.head(1, 2))
    labels = m.choice(("{0, 1}", (1, 0)), ("{0, 1}", (0, 1)), ("{3, 7}", (7, 3)))
    m.variables.append(Var("y", labels[0], 2))
    with_evidence = not evaluable and m.flag(2, 3)
    roots = (m.evidence("data", head[: m.draw(st.integers(1, len(head)))]),) if with_evidence else ()
    first = m.product(list(head), "pr", roots)
    second = m.product(list(head), "qr")
    if not evaluable and m.flag(1, 2):
        inside = m.variable((("{0, 1}", 2), ("{0..2}", 3)))
        latent = m.factor("q", inside, ())
        base = Making.product(m, [*head], "s", (latent,))
        second = base
    shares = m.choice(*SHARES)
    branches = [Branch(tuple(first), shares[0], labels[1][0]), Branch(tuple(second), shares[1], labels[1][1])]
    if m.flag():
        branches.reverse()
    outputs = (*head, "y")
    m.laws[f"m({','.join(outputs)})"] = Law("m", outputs, (), Joint(tuple(branches), "y"))
    reference = m.product(list(head), "rpq") if evaluable else list(first)
    classifier = m.factor("d", "y", tuple(draw(st.permutations(head))), constant=False)
    body = m.laws[classifier.law].body
    assert isinstance(body, Distribution)
    if body.how != "net":
        m.params.pop(body.source)
        binary = labels[0] == "{0, 1}"
        m.laws[classifier.law] = replace(
            m.laws[classifier.law], body=m.network("Bernoulli" if binary else "Categorical", classifier.givens)
        )
    right = (*reference, classifier)
    term = Divergence("KL", (Factor(f"m({','.join(outputs)})", outputs),), right, m.weight())
    return m.spec(Goal((term,), options=options), classifiers=(classifier.law,))
