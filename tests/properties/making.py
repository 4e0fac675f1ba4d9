"""A random spec over small finite spaces while it is drawn: its variables, laws and products."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

from hypothesis import strategies as st

from tests.properties.specs import (
    Branch,
    Distribution,
    Evidence,
    Factor,
    Goal,
    Joint,
    Law,
    Marginal,
    Spec,
    Var,
)

SPACES = (("{0, 1}", 2), ("{0..2}", 3), ("{0, 1}", 2), ("{2, 5}", 2), ("binary", 2), ("binary[2]", 4))
NAMES = "x z t u v w"
INNER = (("{0, 1}", 2), ("{0..2}", 3))
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
        """The spec of these goals: what they do not reach is left out."""
        sides = [f for g in goals for d in g.terms for f in (*d.left, *d.right)]
        used: dict[str, Law] = {}
        while sides:
            law = self.laws[sides.pop().law]
            if law.key not in used and isinstance(law.body, Joint):
                sides += [f for b in law.body.branches for f in b.factors]
            if isinstance(law.body, Marginal):
                sides.append(Factor(law.body.of, ()))
            used[law.key] = law
        bodies = [law.body for law in used.values() if isinstance(law.body, Distribution)]
        sources = {name for body in bodies for name in (body.source, body.spread)}
        named = {o.split("=")[1] for g in goals for o in g.options if o.startswith("critic=")}
        return Spec(
            tuple(self.variables),
            tuple(law for key, law in self.laws.items() if key in used),
            goals,
            tuple((n, space) for n, space in self.params.items() if n in sources),
            tuple((n, built) for n, built in self.nets.items() if n in sources | named),
            classifiers=classifiers,
        )

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
        """A law of one variable, drawn if there is none of these yet; applied to copies where `givens` are copies."""
        givens = tuple({g.rstrip("'"): g for g in reversed(givens)}.values())[::-1]
        own = tuple(g.rstrip("'") for g in givens)
        law = Law(label, (output,), own, Distribution("", "", ""))
        if law.key not in self.laws:
            self.laws[law.key] = replace(law, body=self.distribution(output, own, constant))
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
        name = next(n for n in "EFGHKLMNRSTUVW" if n not in self.nets)
        self.nets[name] = self.choice("linear()", "mlp(3)", "linear(bias=false)", 'mlp(3, activation="tanh")')
        call = f"{name}({','.join(givens)})"
        text = self.choice(f"{family}({call})", f"{family}(logits={call})")
        return Distribution(text, family, "net", name)

    def table(self, var: Var, family: str, givens: tuple[str, ...]) -> Distribution:
        name = next(n for i in range(1, 99) if (n := f"w{i}") not in self.params)
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

    def evidence(self, outputs: tuple[str, ...]) -> Factor:
        """`data` of these variables: a marginal where `data` of more is bound, of another label where of fewer."""
        known = [law for law in self.laws.values() if isinstance(law.body, Evidence)]
        wide = next((law for law in known if law.label == "data" and set(outputs) < set(law.outputs)), None)
        label = "data" if wide or all(law.outputs == outputs for law in known) else f"data{len(known) + 1}"
        label = next((law.label for law in known if law.outputs == outputs), label)
        law = Law(label, outputs, (), Marginal(wide.key) if wide else Evidence(()))
        if law.key not in self.laws:
            size = math.prod(self.space(v).size for v in outputs)
            if wide is None:
                counts = self.draw(st.lists(st.integers(1, 4), min_size=size, max_size=size))
                law = replace(law, body=Evidence(tuple(counts)))
            self.laws[law.key] = law
        return Factor(law.key, outputs)

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
        joint = Law(label, head, (), Joint((Branch(tuple(factors)),)))
        assert joint.key not in self.laws, joint.key
        self.laws[joint.key] = joint
        return Factor(joint.key, head)

    def nested(self, label: str, factors: list[Factor]) -> list[Factor]:
        """Some factors that need nothing of the others as one joint of their own."""
        count = self.draw(st.integers(1, len(factors)))
        inner = factors[:count]
        head = tuple(v for f in inner for v in f.outputs)
        key = f"{label}({','.join(head)})"
        if key in self.laws or any(isinstance(self.laws[f.law].body, Joint) for f in inner):
            return factors
        return [self.named(label, head, inner), *factors[count:]]

    def implicit(self, label: str, factors: list[Factor]) -> list[Factor]:
        """The last law draws through a hidden variable of its own."""
        *first, last = factors
        if not last.givens or not isinstance(self.laws[last.law].body, Distribution):
            return factors
        inside = self.variable(INNER)
        own = self.factor(label, inside, last.givens[:1])
        through = self.factor(label, last.outputs[0], (*last.givens[1:], inside))
        law = Law(label, last.outputs, last.givens, Joint((Branch((own, through)),)))
        self.laws[law.key] = law
        return [*first, Factor(law.key, last.outputs, last.givens)]

    def copied(self, head: list[str], left: list[Factor], right: list[Factor]) -> tuple[list[Factor], list[Factor]]:
        """Both sides times a law of one of their variables, applied to a copy of it."""
        laws = [
            law for law in self.laws.values() if isinstance(law.body, Distribution) and set(law.givens) <= set(head)
        ]
        v = self.choice(*head)
        makers = [law for law in laws if law.outputs == (v,)]
        if not makers:
            return left, right
        copies = [Factor(law.key, (f"{v}'",), law.givens) for law in (self.choice(*makers), self.choice(*makers))]
        return [*left, copies[0]], [*right, copies[1]]

    def side(self, label: str, head: tuple[str, ...], factors: list[Factor]) -> tuple[Factor, ...]:
        """A product as it is, or as a named joint."""
        generated = {v for f in factors for v in f.outputs}
        if generated == set(head) and self.flag():
            return tuple(factors)
        return (self.named(label, head, factors),)

    def maybe_old(self, f: Factor) -> Factor:
        plain = isinstance(self.laws[f.law].body, Distribution)
        return replace(f, old=True) if plain and self.flag(1, 4) else f

    def weight(self) -> Fraction:
        return self.choice(Fraction(1), Fraction(1), Fraction(2), Fraction(1, 3), Fraction(5, 2))
