"""Log-densities and divergences as formulas, for losses.

Common ones are written out as an expert would; the rest go through `pyro.distributions`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from jointkl.emission.distributions import aligned, distribution, filled
from jointkl.emission.statements import Row, Rows
from jointkl.emission.tree import REST, Binary, Expression, Literal, Name, Scaled, Starred, call, minus, string, written
from jointkl.emission.writer import Formula, Writer, full, to_dtype
from jointkl.objective import ir


def log_prob(w: Writer, i: ir.Id, node: ir.LogProb) -> Formula:
    """A log-density, as a formula and its sign: what torch computes is most often the negative."""
    d = node.density
    known = LOG_PROBS.get((d.family, tuple(n for n, _ in d.parameters)))
    found = known(node, w) if known is not None else None
    if found is not None:
        return found
    value = w.text(node.value) if node.value is not None else full(float(node.fixed or 0))
    if d.family == "Bernoulli" and node.value is not None and d.space.kind == "finite":
        value = to_dtype(value)
    return Formula(distribution(d, w, asked=True).do("log_prob", value))


def _bernoulli(node: ir.LogProb, w: Writer) -> Formula:
    """-log Bernoulli: softplus(-logit) at 1, softplus(logit) at 0, the binary cross-entropy at data."""
    ((_, parameter),), n = node.density.parameters, len(node.density.space.shape)
    missing = n - node.density.ndim[0]
    if node.fixed is not None:
        logits = w.text(parameter)
        softplus = "lasting" if node.lasting else "F.softplus"
        return Formula(call(softplus, minus(logits) if node.fixed == 1 else logits), -1, n)
    assert node.value is not None
    value, known = w.text(node.value), w.place(parameter)
    if not w.place(node.value).plain or (known.in_front and not known.plain):
        w.named(parameter)
        logits = aligned(parameter, missing, w)
        return Formula(call("F.softplus", logits) - value * logits, -1, n)
    if node.density.space.kind == "finite":
        value = to_dtype(value)  # an index, where the cross-entropy needs a number
    logits = aligned(parameter, missing, w)
    left = logits if known.plain and not missing else logits.do("expand_as", value)
    return _entropy("F.binary_cross_entropy_with_logits", left, value, n)


def _entropy(function: str, logits: Expression, value: Expression, n: int) -> Formula:
    each, summed = (call(function, logits, value, reduction=string(how)) for how in ("none", "sum"))
    return Formula(each, -1, n, summed=summed)


def _categorical(node: ir.LogProb, w: Writer) -> Formula | None:
    parameter = node.density.parameters[0][1]
    logits = w.text(parameter)
    if node.fixed is not None:
        return Formula(call("F.log_softmax", logits, -1)[REST, node.fixed])
    assert node.value is not None
    if not (w.place(parameter).plain and w.place(node.value).plain):
        return None
    return _entropy("F.cross_entropy", logits, w.text(node.value), 0)


Scored = Callable[[Expression], Expression]
Error = Callable[[Expression, Expression, float], Expression]


def _normal(node: ir.LogProb, w: Writer) -> Formula | None:
    """-log Normal: half the squared standard score, and the log of the scale."""
    constant = HALF * call("math.log", Literal("2") * Name("math.pi"))
    return _located(node, w, lambda e: HALF * e.do("square"), constant, _squared_error)


def _laplace(node: ir.LogProb, w: Writer) -> Formula | None:
    """-log Laplace: the absolute standard score, and the log of twice the scale."""
    return _located(node, w, lambda e: e.do("abs"), call("math.log", 2), _absolute_error)


HALF = Literal("0.5")


def _squared_error(loc: Expression, value: Expression, scale: float) -> Expression:
    return written(0.5 / scale**2) * call("F.mse_loss", loc, value, reduction=string("sum"))


def _absolute_error(loc: Expression, value: Expression, scale: float) -> Expression:
    error = call("F.l1_loss", loc, value, reduction=string("sum"))
    return error if scale == 1.0 else written(1 / scale) * error


def _located(node: ir.LogProb, w: Writer, power: Scored, constant: Expression, error: Error) -> Formula | None:
    """A location-scale family whose parameters have the event's shape, or a number for its scale: then `error`, of
    location, value and scale, is all of it summed."""
    d = node.density
    (_, loc), (_, scale) = d.parameters
    n, size = len(d.space.shape), d.space.size
    fixed = w.number(scale)
    if node.value is None or d.ndim[0] != n or (fixed is None and d.ndim[1] != n):
        return None
    value, location = w.text(node.value), w.text(loc)
    difference = value - location
    constants = [_times(size, constant)]
    if fixed is not None:
        alike = all(w.place(i).plain for i in (loc, node.value))
        summed = error(location, value, fixed) if alike else None
        score = difference if fixed == 1.0 else difference / written(fixed)
        if fixed != 1.0:
            constants.append(_times(size, call("math.log", fixed)))
        return Formula(power(score), -1, n, tuple(constants), summed)
    score = power(difference / w.named(scale))
    return Formula(score + w.named(scale).do("log"), -1, n, tuple(constants))


def _times(size: int, e: Expression) -> Expression:
    return Scaled(Literal(str(size)), e) if size > 1 else e


LOG_PROBS: Mapping[tuple[str, tuple[str, ...]], Callable[[ir.LogProb, Writer], Formula | None]] = {
    ("Bernoulli", ("logits",)): _bernoulli,
    ("Categorical", ("logits",)): _categorical,
    ("Normal", ("loc", "scale")): _normal,
    ("Laplace", ("loc", "scale")): _laplace,
}


# --- divergences


def divergence(w: Writer, i: ir.Id, node: ir.KL) -> Formula:
    """KL[f || g], or the cross-entropy CE[f || g] = E_f{-log g}, in closed form."""
    return _cross_entropy(w, i, node) if node.cross else _kl(w, node)


def _kl(w: Writer, node: ir.KL) -> Formula:
    """KL[f || g], written out for a Normal against a standard one; not all of torch's spread f and g to one shape."""
    left, right = node.left, node.right
    trained = not any(isinstance(w.nodes[i], ir.Constant) for _, i in left.parameters)
    if left.family == right.family == "Normal" and trained and _is_standard(right, w.nodes) and _is_full(left):
        return _kl_to_standard(left, w)
    if left.family == right.family and left.family in DIVERGENCES:
        called, logs = DIVERGENCES[left.family]
        return Formula(call(called, logs(left, w), logs(right, w)), ndim=len(left.space.shape))
    f, g = (distribution(d, w) for d in (left, right))
    shapes = [w.places.together(i for _, i in d.parameters) for d in (left, right)]
    alike = shapes[0] == shapes[1] and not shapes[0].lead
    return Formula(call("kl_divergence", f, g) if alike else call("kl_divergence", Starred(call("spread", f, g))))


def _log_bits(d: ir.Density, w: Writer) -> Expression:
    """The log-probabilities of 0 and of 1, in a last dimension."""
    (made,) = filled(d, w)
    return call("log_bits", made) if d.parameters[0][0] == "logits" else call("log_shares", call("bits", made))


def _log_shares(d: ir.Density, w: Writer) -> Expression:
    """The log-probabilities of all classes."""
    (made,) = filled(d, w)
    return call("F.log_softmax", made, -1) if d.parameters[0][0] == "logits" else call("log_shares", made)


def _rate(d: ir.Density, w: Writer) -> Expression:
    return filled(d, w)[0]


DIVERGENCES: Mapping[str, tuple[str, Callable[[ir.Density, Writer], Expression]]] = {
    "Bernoulli": ("relative", _log_bits),
    "Categorical": ("relative", _log_shares),
    "Geometric": ("relative_wait", _log_bits),
    "Poisson": ("relative_count", _rate),
}
"""Divergences of a family from itself that torch loses where a probability is 0 or 1 to rounding: a function of the
emitted module, and what it is given for each side."""


def _is_standard(d: ir.Density, nodes: Sequence[ir.Node]) -> bool:
    return [nodes[i] for _, i in d.parameters] == [ir.Constant(0.0), ir.Constant(1.0)]


def _is_full(d: ir.Density) -> bool:
    return all(n == len(d.space.shape) for n in d.ndim)


def _kl_to_standard(d: ir.Density, w: Writer) -> Formula:
    """KL[N(loc, scale^2) || N(0, 1)] = sum of (loc^2 + scale^2 - 1)/2 - log scale (Wu 13, Kingma and Welling B)."""
    (_, location), (_, spread) = d.parameters
    loc, root, n = w.text(location), w.nodes[spread], len(d.space.shape)
    one = Literal("1")
    if isinstance(root, ir.Apply) and root.operator == "sqrt" and isinstance(w.nodes[root.operands[0]], ir.Over):
        var = w.text(root.operands[0])
        return Formula(HALF * (loc.do("square") + var - one - var.do("log")), ndim=n)
    scale = w.named(spread)
    return Formula(HALF * (loc.do("square") + scale.do("square") - one) - scale.do("log"), ndim=n)


def _cross_entropy(w: Writer, i: ir.Id, node: ir.KL) -> Formula:
    """For each datum. Against logits it is written out, finite at whatever they are; else it is KL[f || g] + H[f]."""
    left, right = node.left, node.right
    n = len(right.space.shape)
    ((name, logits), *_) = right.parameters
    chances = _chances(w, left)
    if name == "logits" and right.ndim == (n + (right.family == "Categorical"),) and chances is not None:
        if right.family == "Bernoulli":
            each = w.named(logits)
            return Formula(call("F.softplus", each) - Binary("*", chances, each), ndim=n)
        return Formula((chances * w.text(logits).do("log_softmax", -1)).do("sum", -1), -1, n)
    f, g = (w.names.of((i, name), name) for name in ("f", "g"))
    made = [distribution(d, w) for d in (left, right)]
    w.statements.append(Rows(f"{f}, {g} = spread(", tuple(Row("", d, ",") for d in made), ")", ("spread",)))
    return Formula(call("kl_divergence", Name(f), Name(g)) + Name(f).do("entropy"))


def _chances(w: Writer, d: ir.Density) -> Expression | None:
    """The probabilities of a Bernoulli, of its number where it has one for all bits, or of a Categorical."""
    if d.family not in ("Bernoulli", "Categorical"):
        return None
    ((name, parameter),) = d.parameters
    known, whole = w.number(parameter), len(d.space.shape) + (d.family == "Categorical")
    if known is not None and d.family == "Bernoulli":
        return written(known if name == "probs" else 1 / (1 + math.exp(-known)))
    if d.ndim != (whole,):
        return None
    made = w.text(parameter)
    if name == "probs":
        return made
    return made.do("sigmoid") if d.family == "Bernoulli" else made.do("softmax", -1)
