"""Strategies: random well-posed specs over small finite spaces that nobody has named.

Every draw is a `Spec`; a counter-example is noted as .jkl.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from hypothesis import assume
from hypothesis import strategies as st

from tests.properties.making import INNER, SHARES, SPACES, Draw, Making
from tests.properties.specs import Branch, Divergence, Factor, Goal, Joint, Law, Spec, Var

# --- divergences of which everything can be evaluated


@st.composite
def likelihoods(draw: Draw, hidden: bool = False, name: str = "KL") -> Spec:
    """KL(P || Q) or CE(P || Q) of two random factorisations; P may start from evidence, which no law of Q is.

    Joints stand inside others, laws are shared by both sides, the goal is scaled; `hidden`: a variable is integrated
    out on either side or both.
    """
    m = Making(draw)
    return m.spec(Goal((divergence(m, m.head(1 + hidden, 3), name, hidden),)))


def divergence(m: Making, head: list[str], name: str, hidden: bool = False, names: str = "ab") -> Divergence:
    where = m.choice("right", "left", "both") if hidden else ""
    known = tuple(head[: m.draw(st.integers(0, min(2, len(head))))])
    evaluable = name == "CE" or where not in ("left", "both")
    roots = (m.evidence(known),) if known and evaluable else ()
    inside = [m.variable(INNER)] if hidden else []
    left = m.product([*head, *(inside if where in ("left", "both") else [])], "pqr", roots)
    right = m.product([*head, *(inside if where in ("right", "both") else [])], "qpr")
    if hidden and name == "KL" and m.flag(1, 3):
        left, right = m.implicit("via", left), m.implicit("by", right)
    if m.flag(1, 4):
        left, right = m.copied(head, left, right)
        head = list(dict.fromkeys(v for f in left for v in f.outputs if v not in inside))
    if m.flag(1, 3):
        left = m.nested("first", left)
    if m.flag(1, 3):
        right = m.nested("second", right)
    order = tuple(m.draw(st.permutations(head)))
    return Divergence(name, m.side(names[0], tuple(head), left), m.side(names[1], order, right), m.weight())


@st.composite
def hidden_mixtures(draw: Draw, name: str = "KL") -> Spec:
    """A mixture whose label nobody sees, as a side of a divergence or as a factor of one.

    In a CE it stands on the left: it is sampled, branch by branch, and nobody asks for its density.
    """
    m = Making(draw)
    head = m.head(1, 2)
    where = m.choice("left", "right", "factor") if name == "KL" else m.choice("left", "factor")
    inside = m.variable(INNER) if where == "factor" else None
    roots = (m.evidence(tuple(head)),) if name == "CE" and where == "left" and m.flag() else ()
    branches = [m.product(head, "pr", roots), m.product(head, "qr")]
    shares = m.choice(*SHARES)
    body = Joint(tuple(Branch(tuple(fs), w, k) for k, (fs, w) in enumerate(zip(branches, shares, strict=True))), "k")
    key = f"n({','.join(head)})"
    m.laws[key] = Law("n", tuple(head), (), body)
    mixed: list[Factor] = [Factor(key, tuple(head))]
    if inside is not None:
        mixed.append(m.factor("p", inside, (m.choice(*head),)))
        head = [*head, inside]
    plain = m.product(head, "sq")
    sides = (mixed, plain) if name == "CE" or where == "left" or m.flag() else (plain, mixed)
    left, right = (m.side(label, tuple(head), fs) for label, fs in zip("ab", sides, strict=True))
    return m.spec(Goal((Divergence(name, left, right, m.weight()),)))


@st.composite
def several(draw: Draw, old: bool = True) -> Spec:
    """Several goals of several terms, each for the players that it names; some laws are read as they were."""
    m = Making(draw)
    head = m.head(2, 3)
    goals: list[Goal] = []
    for i in range(draw(st.integers(1, 3))):
        terms = []
        for j in range(draw(st.integers(1, 2))):
            d = divergence(m, head, m.choice("KL", "CE"), names=("ab", "cd", "ef", "gh", "ij", "kl")[2 * i + j])
            d = replace(d, weight=d.weight * m.choice(1, 1, -1))
            terms.append(replace(d, left=tuple(map(m.maybe_old, d.left))) if old else d)
        goals.append(Goal(tuple(terms), maximize=m.flag(1, 4)))
    made = m.spec(*goals)
    trainable = [n for n, _ in (*made.params, *made.nets)]
    if trainable and m.flag(2, 3):
        some = st.lists(st.sampled_from(trainable), min_size=1, unique=True).map(tuple)
        made = replace(made, goals=tuple(replace(g, over=draw(some)) for g in goals))
    return made


# --- labelled mixtures and classifiers


@st.composite
def mixtures(draw: Draw, evaluable: bool = False, options: tuple[str, ...] = (), label: str = "") -> Spec:
    """KL of a labelled mixture from a reference times a classifier.

    The branches are random factorisations of the same variables, beside a hidden one in some; the reference is one of
    the branches, or (`evaluable`) a product of its own without evidence, its branches then without hidden variables.
    """
    m = Making(draw)
    head = tuple(m.head(1, 2))
    space, values = {"": m.choice(("{0, 1}", (1, 0)), ("{0, 1}", (0, 1)), ("{3, 7}", (7, 3))),
                     "three": ("{0..2}", (0, 1, 2))}[label]  # fmt: skip
    m.variables.append(Var("y", space, len(values)))
    known = head[: m.choice(1, 1, len(head))]
    roots = (m.evidence(known),) if not evaluable and m.flag(3, 4) else ()
    products = [m.product(list(head), "pr", roots)]
    for _ in values[1:]:
        fresh = m.product(list(head), "qrs")
        if not evaluable and m.flag():
            latent = m.factor("q", m.variable(INNER), ())
            fresh = m.product(list(head), "s", (latent,))
        products.append(m.nested("inner", fresh) if m.flag(1, 4) else fresh)
    shares = m.choice(*SHARES) if len(values) == 2 else (Fraction(1, 2), Fraction(3, 10), Fraction(1, 5))
    branches = [Branch(tuple(fs), w, k) for fs, w, k in zip(products, shares, values, strict=True)]
    if m.flag():
        branches.reverse()
    outputs = (*head, "y")
    m.laws[f"m({','.join(outputs)})"] = Law("m", outputs, (), Joint(tuple(branches), "y"))
    reference = m.product(list(head), "rpq") if evaluable else products[0]
    seen = tuple(draw(st.permutations(head)))
    family = m.choice("Bernoulli", "Categorical") if space == "{0, 1}" else "Categorical"
    classifier = Law("d", ("y",), seen, m.network(family, seen))
    m.laws[classifier.key] = classifier
    right = (*reference, Factor(classifier.key, ("y",), seen))
    term = Divergence("KL", (Factor(f"m({','.join(outputs)})", outputs),), right, m.weight())
    return m.spec(Goal((term,), options=options), classifiers=(classifier.key,))


@st.composite
def weighted(draw: Draw) -> Spec:
    """KL of a reference times a classifier from a labelled mixture: each branch's terms weighted by the classifier.

    Only the mixture's own laws are trained; what the classifier is given comes from data or from constants.
    """
    m = Making(draw)
    head = tuple(m.head(1, 2))
    m.variables.append(Var("y", "{0, 1}", 2))
    roots = (m.evidence(head),)
    branches = [m.product(list(head), label) for label in ("pr", "qs")]
    shares = m.choice(*SHARES)
    outputs = (*head, "y")
    body = Joint(tuple(Branch(tuple(fs), w, k) for k, (fs, w) in enumerate(zip(branches, shares, strict=True))), "y")
    m.laws[f"m({','.join(outputs)})"] = Law("m", outputs, (), body)
    classifier = Law("d", ("y",), head, m.network(m.choice("Bernoulli", "Categorical"), head))
    m.laws[classifier.key] = classifier
    left = (*roots, Factor(classifier.key, ("y",), head))
    made = m.spec(Goal((Divergence("KL", left, (Factor(f"m({','.join(outputs)})", outputs),), m.weight()),)))
    over = tuple(n for n, _ in (*made.params, *made.nets) if n != classifier.body.source)
    assume(over)
    return replace(made, goals=tuple(replace(g, over=over) for g in made.goals))


# --- ratios and their critics


@st.composite
def ratios(draw: Draw) -> Spec:
    """A goal that needs a density ratio: a generated joint from data; mutual information; total correlation."""
    m = Making(draw)
    m.nets["C"] = "mlp(3)"
    what = m.choice("generated", "information", "correlation", "mixture")
    sign = m.flag()
    if what == "generated":
        head = tuple(m.head(1, 2))
        moving = m.product(list(head), "pq")
        if m.flag():
            latent = m.factor("q", m.variable(INNER), ())
            moving = m.product(list(head), "s", (latent,))
        sides = (m.side("a", head, moving), (m.evidence(head),))
    elif what == "mixture":
        head = tuple(m.head(1, 2))
        shares = m.choice(*SHARES)
        parts = (m.product(list(head), "pr"), m.product(list(head), "q"))
        branches = tuple(Branch(tuple(fs), w, k) for k, (fs, w) in enumerate(zip(parts, shares, strict=True)))
        m.laws["n"] = Law("n", head, (), Joint(branches, "k"))
        law = m.laws.pop("n")
        m.laws[law.key] = law
        mixed, plain = (Factor(law.key, head),), (m.evidence(head),) if m.flag() else tuple(m.product(list(head), "s"))
        sides = (mixed, plain)
    else:
        m.variables += [Var("x", *m.choice(*SPACES)), Var("z", *m.choice(*SPACES))]
        data = m.evidence(("x",))
        if what == "information":
            joint = (data, m.factor("p", "z", ("x",), constant=False))
            sides = (joint, (data, m.named("agg", ("z",), list(joint))))
        else:
            m.variables.append(Var("t", *m.choice(*SPACES[:4])))
            whole = [data, m.factor("p", "z", ("x",), constant=False)]
            given = ("x", "z") if m.flag() else ("x",)
            whole.append(m.factor("p", "t", given, constant=False))
            apart = tuple(m.named("agg", (v,), whole) for v in ("z", "t"))
            sides = ((m.named("agg", ("z", "t"), whole),), apart)
    weight = m.weight()
    return m.spec(Goal((Divergence("KL", *sides, weight),), options=("critic=C",), maximize=sign))


ANY = st.one_of(likelihoods(), hidden_mixtures("CE"), several(), mixtures(), likelihoods(hidden=True))
"""Specs whose losses need no critic."""
