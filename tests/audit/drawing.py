"""Random specs that nobody has named, written as a user would: what the judge of the emitted module is fed.

A spec is drawn from a seed alone. It holds one to three goals over a few variables that share their laws, networks and
params: likelihoods and cross-entropies, labelled mixtures against a classifier, ratios and their critics, hidden and
conditional mixtures, Free laws, globals, copies of the evidence and its marginals, laws at their snapshot, hinges,
trunks that several networks share.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

OBSERVED = ("x", "t")
LATENT = ("z", "w", "u")
SPACES = ("real", "real[2]", "binary", "binary[2]", "{0, 1}", "{0..2}")


@dataclass
class Drawing:
    """A spec while it is drawn: statements by what they define."""

    chance: random.Random
    variables: dict[str, str] = field(default_factory=dict)
    nets: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    laws: dict[str, str] = field(default_factory=dict)
    joints: dict[str, str] = field(default_factory=dict)
    trunks: dict[str, str] = field(default_factory=dict)
    goals: list[tuple[str, list[str], list[str]]] = field(default_factory=list)
    """The objective, the options, whom the goal must name besides if it names anybody."""
    referees: set[str] = field(default_factory=set)

    def flag(self, share: float = 0.5) -> bool:
        return self.chance.random() < share

    def of(self, *options):
        return self.chance.choice(options)

    def fresh(self, table: dict[str, str], letters: str) -> str:
        return next(n for i in range(99) for c in letters if (n := f"{c}{i or ''}") not in table)

    # --- variables

    def variable(self, name: str, *spaces: str) -> str:
        if name not in self.variables:
            wide = any("[2]" in s for s in self.variables.values())
            allowed = [s for s in (spaces or SPACES) if not (wide and "[2]" in s)]
            self.variables[name] = self.of(*(allowed or ["binary"]))
        return name

    def space(self, name: str) -> str:
        return self.variables[name.rstrip("'")]

    def is_finite(self, name: str) -> bool:
        return self.space(name).startswith("{")

    # --- laws

    def law(self, label: str, out: str, *givens: str, dirac: bool = True) -> str:
        """A law applied, drawn if there is none of these variables yet."""
        own: list[str] = []
        for v in (out, *givens):  # a law of two copies of one variable is matched in order
            base = v.rstrip("'")
            own.append(base + "'" * sum(o.rstrip("'") == base for o in own))
        left = f"{label}({own[0]}{'|' if givens else ''}{','.join(own[1:])})"
        if left not in self.laws:
            self.laws[left] = self.body(out, tuple(own[1:]), dirac)
        return f"{label}({out}{'|' if givens else ''}{','.join(givens)})"

    def body(self, out: str, givens: tuple[str, ...], dirac: bool) -> str:
        space = self.space(out)
        if space.startswith("{"):
            return self.categorical(out, givens)
        family = "Bernoulli" if space.startswith("binary") else "Normal"
        if not givens:
            if self.flag(0.4):
                return "Normal(0, 1)" if family == "Normal" else f"Bernoulli({self.of(0.3, 0.6)})"
            a = self.param("real" if self.flag() else space.replace("binary", "real"))
            return f"Normal({a}, 1)" if family == "Normal" else f"Bernoulli(logits={a})"
        value = self.value(out, givens)
        if family == "Normal" and dirac and self.flag(0.3) and "(" in value and value.endswith(")"):
            return f"Delta({value}, density=Normal(1))" if self.flag(0.4) else f"Delta({value})"
        if family == "Normal":
            bare = value[:1].isupper() and value.count("(") == 1
            return f"Normal({value})" if bare and self.flag() else f"Normal({value}, {self.of(1, 0.7)})"
        return f"Bernoulli(logits={value})"

    def value(self, out: str, givens: tuple[str, ...]) -> str:
        """A location or logit of the output's shape, or a number that fills it."""
        finite = [g for g in givens if self.is_finite(g)]
        real = [g for g in givens if not self.is_finite(g)]
        kind = self.of("net", "net", "trunk", "param", "sum", "index")
        shape = self.space(out).split("[")
        dims = f"[{shape[1]}" if len(shape) > 1 else ""
        if kind == "index" and finite and not real and len(finite) == 1:
            scalar = self.flag()
            size = self.size(finite[0])
            return f"{self.param(f'real[{size}]' if scalar or not dims else f'real[{size},2]')}[{finite[0]}]"
        if kind == "param" and len(real) == 1 and not finite and (self.space(real[0]).count("[") == (1 if dims else 0)):
            return f"{self.param('real' if self.flag() else 'real' + dims)} * {real[0]} + 0.3"
        net = self.net(givens, kind == "trunk")
        return f"{self.param('real')} + {net}" if kind == "sum" else net

    def size(self, name: str) -> int:
        return {"{0, 1}": 2, "{0..2}": 3}[self.space(name)]

    def net(self, givens: tuple[str, ...], trunk: bool) -> str:
        name = self.fresh(self.nets, "EFGHKLMN")
        self.nets[name] = ""
        written = list(givens)
        if trunk and self.flag(0.7):
            written[0] = self.trunk(givens[0])
        if self.flag(0.1):
            written.append(self.param("real[2]"))
        return f"{name}({', '.join(written)})"

    def trunk(self, given: str) -> str:
        """A feature of a variable: the same network wherever that variable is asked for one."""
        base = given.rstrip("'")
        if base not in self.trunks:
            self.trunks[base] = self.fresh(self.nets, "T")
            self.nets[self.trunks[base]] = ": real[4]"
        return f"{self.trunks[base]}({given})"

    def param(self, space: str) -> str:
        if self.params and self.flag(0.15) and space in self.params.values():
            return next(n for n, s in self.params.items() if s == space)
        name = f"o{len(self.params) + 1}"
        self.params[name] = space
        return name

    def categorical(self, out: str, givens: tuple[str, ...]) -> str:
        n = self.size(out)
        if not givens:
            if self.flag(0.4):
                return "Categorical()"
            kind = self.of("simplex", "real")
            a = self.param(f"{kind}[{n}]")
            return f"Categorical({a})" if kind == "simplex" else f"Categorical(logits={a})"
        if len(givens) == 1 and self.is_finite(givens[0]) and self.flag():
            return f"Categorical(logits={self.param(f'real[{self.size(givens[0])},{n}]')}[{givens[0]}])"
        family = "Bernoulli" if self.space(out) == "{0, 1}" and self.flag() else "Categorical"
        net = self.net(givens, self.flag(0.3))
        return f"{family}({net})" if self.flag(0.7) else f"{family}(logits={net})"

    # --- products

    def data(self, *names: str, label: str = "data") -> str:
        return f"{label}({','.join(names)})"

    def product(
        self, label: str, names: list[str], roots: list[str], known: list[str], dirac: bool = True
    ) -> list[str]:
        """Factors that generate `names` one after another, each given some of what stands before it."""
        made, factors = list(known), list(roots)
        for v in names:
            some = [g for g in made if self.flag(0.6)][:2]
            factors.append(self.law(self.of(label, label, "r"), v, *some, dirac=dirac))
            made.append(v)
        return factors

    def joint(self, label: str, head: list[str], factors: list[str]) -> str:
        """A product as a law of its own."""
        names = ",".join(head)
        key = f"{label}({names})"
        while key in self.joints or any(k.startswith(f"{label}(") for k in self.laws):
            label += "j"
            key = f"{label}({names})"
        self.joints[key] = " * ".join(factors)
        return key

    def mixture(
        self, label: str, outputs: list[str], givens: list[str], branches: list[list[str]], shown: str, values
    ) -> str:
        key = f"{label}({','.join(outputs)}{'|' if givens else ''}{','.join(givens)})"
        while key in self.joints or key in self.laws:
            label += "m"
            key = f"{label}({','.join(outputs)}{'|' if givens else ''}{','.join(givens)})"
        weights = self.of(None, (0.25, 0.75), (0.7, 0.3)) if len(branches) == 2 else None
        parts = []
        for i, (value, fs) in enumerate(zip(values, branches, strict=False)):
            share = f"{weights[i]} * " if weights else ""
            parts.append(f"{shown}={value}: {share}{' * '.join(fs)}")
        self.joints[key] = "{ " + "; ".join(parts) + " }"
        return key

    # --- the text

    def text(self) -> str:
        goals = [self.goal(*g) for g in self.goals]
        self.chance.shuffle(goals)
        used = self.reached(goals)
        whole = " ".join((*used.values(), *goals))
        lines = [f"var {n}: {s}" for n, s in self.variables.items()]
        lines += [f"net {n}{out} = mlp(4)" for n, out in self.nets.items() if re.search(rf"\b{n}\b", whole)]
        lines += [f"param {n}: {s}" for n, s in self.params.items() if re.search(rf"\b{n}\b", whole)]
        lines += [f"{k} = {b}" for k, b in used.items()]
        lines += self.players(whole)
        return "\n".join([*lines, *goals]) + "\n"

    def players(self, whole: str) -> list[str]:
        """Sometimes some of those who are no referees are grouped by name."""
        free = [n for n in (*self.nets, *self.params) if n not in self.referees and re.search(rf"\b{n}\b", whole)]
        some = [n for n in free if self.flag()]
        return [f"player group = {', '.join(some)}"] if some and self.flag(0.15) else []

    def reached(self, goals: list[str]) -> dict[str, str]:
        """The laws and joints that the goals are made of."""
        known = {**self.laws, **self.joints}
        pending, found = list(goals), set[str]()
        while pending:
            for named in re.findall(r"\w+\([^()=]*\)", pending.pop().replace("'", "")):
                for key in (k for k in known if k.replace("'", "") == named and k not in found):
                    found.add(key)
                    pending.append(known[key])
        return {k: b for k, b in known.items() if k in found}

    def goal(self, objective: str, options: list[str], needs: list[str]) -> str:
        over = ""
        whole = " ".join(self.reached([g for g, _, _ in self.goals]).values())
        others = [n for n in (*self.nets, *self.params) if n not in self.referees and re.search(rf"\b{n}\b", whole)]
        if self.flag(0.25) and others:
            some = [n for n in others if self.flag(0.6)] or others[:1]
            over = " over " + ", ".join(dict.fromkeys((*some, *needs)))
        return f"minimize {objective}{over}" + (f" with {', '.join(options)}" if options else "")


# --- goals


def scaled(d: Drawing, term: str) -> str:
    return f"{d.of('2', '0.5', '1/3')} * {term}" if d.flag(0.3) else term


def old(d: Drawing, factors: list[str], share: float = 0.2) -> list[str]:
    """Some laws at their snapshot."""
    return [f"old {f}" if not f.startswith("data") and d.flag(share) else f for f in factors]


def likelihood(d: Drawing, name: str = "KL") -> str:
    """KL or CE of two factorisations, from evidence or not."""
    observed = [d.variable(v) for v in OBSERVED[: d.of(1, 1, 2)]]
    latent = [d.variable(v) for v in LATENT[: d.of(0, 1, 1, 2) if len(observed) == 1 else d.of(0, 1)]]
    roots = [d.data(*observed)] if d.flag(0.8) else []
    rest = [*([] if roots else observed), *latent]
    left = d.product("p", rest, roots, observed if roots else [], dirac=False)
    head = [*observed, *latent]
    order = head[:]
    d.chance.shuffle(order)
    right = d.product("q", order, [], [], dirac=False)
    if name == "KL" and d.flag(0.3) and latent:
        inside = d.variable("k", "{0, 1}", "{0..2}")
        right[-1:] = [d.law("g", inside), d.law("q", order[-1], inside, *order[:1] if len(order) > 1 else ())]
        before = "old " if d.flag(0.3) else ""
        return f"KL({' * '.join(old(d, left))} || {before}{d.joint('h', head, right)})"
    if name == "CE" and d.flag(0.5) and len(order) > 1:
        right = right[-1:]
    return f"{name}({' * '.join(old(d, left))} || {' * '.join(old(d, right))})"


def mixed(d: Drawing) -> str:
    """A conditional or hidden mixture as a factor: sampled in a CE, evaluated on the right."""
    x, z = d.variable("x"), d.variable("z")
    a, b = d.law("p", z, x, dirac=False), d.law("r", z, x, dirac=False)
    if d.flag():
        m = d.mixture("n", [z], [x], [[a], [b]], "s", (0, 1))
        m = f"old {m}" if d.flag(0.2) else m
        if d.flag():
            return f"CE({d.data(x)} * {m} || {d.law('q', x, z, dirac=False)})"
        return f"{d.of('KL', 'CE')}({d.data(x)} * {d.law('e', z, x, dirac=False)} || {d.data(x)} * {m})"
    first, second = d.law("p", x, dirac=False), d.law("r", x, dirac=False)
    m = d.mixture("n", [x], [], [[first], [second]], "s", (0, 1))
    left = d.data(x) if d.flag() else d.law("g", x, dirac=False)
    return f"{d.of('KL', 'CE')}({left} || {m})"


def sharing(d: Drawing) -> str:
    """Two mixtures with a branch in common, or three branches, one of them twice."""
    x, z = d.variable("x"), d.variable("z")
    parts = [d.law(label, z, x, dirac=False) for label in ("p", "r", "e")]
    one = d.mixture("n", [z], [x], [[parts[0]], [parts[1]]], "s", (0, 1))
    two = d.mixture("o", [z], [x], [[parts[i]] for i in d.of((0, 2), (1, 0), (0, 1, 0))], "s", (0, 1, 2))
    return (
        f"{d.of('CE', 'KL')}({d.data(x)} * {parts[0]} || {d.data(x)} * {d.of(one, two)})"
        if d.flag()
        else (f"CE({d.data(x)} * {one} || {d.data(x)} * {two})")
    )


def weighed(d: Drawing) -> str:
    """A classifier that draws the label on the left, its branches on the right, laws given the label."""
    x, z = d.variable("x"), d.variable("z")
    d.variables.setdefault("y", "{0, 1}")
    c = d.law("c", "y", x, dirac=False)
    code = d.law("p", z, x, "y", dirac=False)
    branches = [[d.law("q", z, dirac=False), d.law(label, x, z, dirac=False)] for label in ("g", "h")]
    m = d.mixture("w", [x, z, "y"], [], branches, "y", (0, 1))
    return f"KL({d.data(x)} * {c} * {code} || {m})"


def labelled(d: Drawing) -> tuple[str, list[str], list[str]]:
    """A labelled mixture of data and what is generated, against a classifier."""
    x, z = d.variable("x"), d.variable("z")
    d.variables.setdefault("y", "{0, 1}")
    both = d.flag(0.4)
    head = [x, z] if both else [x]
    real = [d.data(x), *([d.law("p", z, x, dirac=d.flag())] if both else [])]
    made = [d.law("q", z, dirac=False), d.law("q", x, z)]
    if not both and d.flag(0.3):
        made = [d.mixture("n", [x], [], [made, [d.law("h", z, dirac=False), d.law("h", x, z)]], "s", (0, 1))]
    seen = list(head)
    d.chance.shuffle(seen)
    key = f"c(y|{','.join(seen)})"
    if key not in d.laws:
        net = d.net(tuple(seen), d.flag(0.4))
        d.referees |= {n for n in d.nets if f"{n}(" in net}
        d.laws[key] = f"{d.of('Bernoulli', 'Categorical')}({net})"
    m = d.mixture("m", [*head, "y"], [], [real, made], "y", (1, 0))
    options = d.of([], [], [], ["game=minimax"], ["game=nonsaturating"], ["proximal=kl"])
    names = [n for n in d.nets if n in d.referees and f"{n}(" in d.laws[key]]
    return f"KL({m} || {' * '.join(real)} * {key})", options, names


def ratio(d: Drawing) -> tuple[str, list[str], list[str]]:
    """A goal that needs a critic: a generator against data, information, total correlation, an implicit posterior."""
    critic = d.fresh(d.nets, "C")
    d.nets[critic] = ""
    d.referees.add(critic)
    x, z = d.variable("x"), d.variable("z")
    kind = d.of("generated", "generated", "information", "implicit", "correlation", "mixtures")
    sign = ""
    if kind == "generated":
        made = d.joint("q", [x], [d.law("q", z, dirac=False), d.law("q", x, z)])
        term = f"KL({made} || {d.data(x)})"
    elif kind == "mixtures":
        parts = [[d.law("q", z, dirac=False), d.law(label, x, z)] for label in ("q", "h")]
        both = [d.mixture(label, [x], [], parts, "s", (0, 1)) for label in ("n", "o")]
        term = f"KL({both[0]} || {d.of(both[1], d.data(x))})"
    elif kind == "information":
        code = d.law("p", z, x, dirac=False)
        term = f"KL({d.data(x)} * {code} || {d.data(x)} * {d.joint('a', [z], [d.data(x), code])})"
        sign = d.of("", "-")
    elif kind == "implicit":
        noise = d.variable("o", "real")
        code = d.law("p", z, x, noise, dirac=False)
        hidden = f"i({z}|{x})"
        d.joints[hidden] = f"{d.law('p', noise, dirac=False)} * {code}"
        term = f"KL({d.data(x)} * {hidden} || {d.law('q', z, dirac=False)} * {d.law('q', x, z, dirac=False)})"
    else:
        w = d.variable("w")
        whole = [d.data(x), d.law("p", z, x, dirac=False), d.law("p", w, x, dirac=False)]
        apart = [d.joint(label, [v], [d.data(x), f]) for label, v, f in (("a", z, whole[1]), ("b", w, whole[2]))]
        term = f"KL({d.joint('j', [z, w], whole)} || {' * '.join(apart)})"
    applied = critic
    if kind == "generated" and d.flag(0.3):
        applied = f"{critic}({d.trunk(x)})"
        d.referees |= {d.trunks[x]}
    return sign + term, [f"critic={applied}"], [critic]


def copies(d: Drawing) -> str:
    """Independent draws of one source on a path: copies of a variable, marginals of two columns."""
    x = d.variable("x", "binary", "{0, 1}", "real")
    z = d.variable("z", "binary", "{0, 1}", "real")
    kind = d.of("two", "three", "marginals", "apart")
    if kind == "two":
        left = [d.data(x), d.data("x'"), d.law("v", z, x, "x'", dirac=False)]
    elif kind == "three":
        left = [d.data(x), d.data("x'"), d.data("x''"), d.law("v", z, "x'", "x''", dirac=False)]
    else:
        t = d.variable("t", "binary", "{0, 1}", "real")
        roots = [d.data(x), d.data(t)] if kind == "marginals" else [d.data(x, t), d.data("x'")]
        left = [*roots, d.law("v", z, x, t, dirac=False)]
        d.goals.append((f"CE({d.data(x, t)} || {d.law('f', t, x, dirac=False)})", [], []))
    prior = d.law("q", z, dirac=False)
    right = [*left[:-1], prior]
    return f"KL({' * '.join(left)} || {' * '.join(right)})"


def free(d: Drawing) -> str:
    """A Free law and what it is solved beside."""
    x, k = d.variable("x"), d.variable("k", "{0, 1}", "{0..2}")
    d.laws.setdefault(f"f({k}|{x})", "Free")
    return f"KL({d.data(x)} * f({k}|{x}) || {d.law('q', k, dirac=False)} * {d.law('q', x, k, dirac=False)})"


def shared(d: Drawing) -> str:
    """A global beside data, with or without a local latent."""
    x = d.variable("x")
    b = "b_"
    d.variables.setdefault(b, d.of("real", "{0, 1}") + " global")
    spelt = d.variables[b]
    d.variables[b] = spelt.removesuffix(" global")
    prior, own = d.law("q", b, dirac=False), d.law("p", b, dirac=False)
    likelihood = d.law("q", x, b, dirac=False)
    d.variables[b] = spelt
    return f"KL({d.data(x)} * {own} || {prior} * {likelihood})"


def trunked(d: Drawing) -> str:
    """A law through a trunk beside whatever else uses it."""
    x, k = d.variable("x"), d.variable("k", "{0, 1}", "{0..2}")
    name = d.fresh(d.nets, "RS")
    d.nets[name] = ""
    key = f"l({k}|{x})"
    d.laws.setdefault(key, f"Categorical({name}({d.trunk(x)}))")
    if name not in d.laws[key]:
        del d.nets[name]
    return f"CE({d.data(x)} * {d.law('e', k, x, dirac=False)} || {key})"


def term(d: Drawing) -> str:
    made = d.of(likelihood, likelihood, mixed, sharing, weighed, copies, free, shared, trunked)(d)
    if made.startswith("KL") and d.flag(0.12) and " f(" not in made:
        return f"max(0, {d.of('1', '0.3')} - {made})" if d.flag() else f"max(0, {made} - 0.4)"
    return scaled(d, made)


def spec(seed: int | str) -> str:
    """The text of the spec of a seed."""
    d = Drawing(random.Random(seed))
    for _ in range(d.of(1, 1, 2, 2, 3)):
        kind = d.chance.random()
        if kind < 0.3:
            d.goals.append(labelled(d))
        elif kind < 0.5:
            d.goals.append(ratio(d))
        elif kind < 0.6:
            d.goals.append((likelihood(d, "CE"), [], []))
        else:
            terms = [term(d) for _ in range(d.of(1, 1, 1, 2))]
            d.goals.append((" + ".join(terms), d.of([], [], [], ["estimate=monte_carlo"], ["estimate=score"]), []))
    return d.text()
