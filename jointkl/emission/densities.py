"""Families as torch: distributions for the laws, formulas for the losses.

Common densities and divergences are written out as an expert would; the rest go through `pyro.distributions`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from jointkl.emission.library import BOUNDED
from jointkl.emission.places import Place, Rows
from jointkl.emission.text import ATOM, PRODUCT, SUM, Text, dims
from jointkl.objective import ir
from jointkl.objective.walk import upstream
from jointkl.semantics.families import FAMILIES, parameter_space

FUNCTIONS: Mapping[str, str] = {
    "exp": "{}.exp()",
    "log": "{}.log()",
    "sqrt": "{}.sqrt()",
    "softplus": "F.softplus({})",
    "sigmoid": "{}.sigmoid()",
    "tanh": "{}.tanh()",
    "softmax": "{}.softmax(-1)",
    "square": "{}.square()",
}
"""Functions of the language as torch, on an argument that needs no brackets."""

Write = Callable[[ir.Id], Text]


@dataclass(frozen=True, slots=True)
class Writer:
    """What formulas are written with: the nodes, how one is written, and which dimensions it has."""

    nodes: tuple[ir.Node, ...]
    write: Write
    named: Write
    """Written as a name, for what a formula uses twice."""
    layout: Callable[[ir.Id], Place]
    together: Callable[[Iterable[ir.Id]], Place]

    def text(self, i: ir.Id) -> Text:
        return self.write(i)

    def number(self, i: ir.Id) -> float | None:
        """The value of a node that is one number."""
        node = self.nodes[i]
        return node.number if isinstance(node, ir.Constant) else None


def reparameterised(d: ir.Density) -> bool:
    return FAMILIES[d.family].reparameterised


def distribution(d: ir.Density, w: Writer, *, asked: bool = False) -> Text:
    """`dist.Normal(loc, scale).to_event(1)`, its parameters filled to the shape of the event; `asked`: for the density
    of any value."""
    family = FAMILIES[d.family]
    event = len(d.space.shape) - family.event
    texts = _filled(d, w)
    named = [p.name for p in family.parameters[: len(texts)]] != [n for n, _ in d.parameters]
    positional = not (named or family.tensors)
    arguments = [
        t if positional and len(texts) > 1 else f"{name}={t}" for (name, _), t in zip(d.parameters, texts, strict=True)
    ]
    called = d.family if asked and d.family in BOUNDED else f"dist.{d.family}"
    made = f"{called}({', '.join(arguments)})"
    return Text(made + (f".to_event({event})" if event > 0 else ""), ATOM)


def _filled(d: ir.Density, w: Writer) -> list[str]:
    """The parameters' texts; where none has its full shape, or all are numbers, the first is spread over it. A family
    that takes tensors alone has each spread over its own."""
    family = FAMILIES[d.family]
    parameters = [p for n, _ in d.parameters if (p := family.parameter(n)) is not None]
    shapes = [parameter_space(family, p, d.space).shape for p in parameters]
    ndims = d.ndim or tuple(0 for _ in d.parameters)
    full = any(own == len(shape) for own, shape in zip(ndims, shapes, strict=True))
    numbers = all(w.number(i) is not None for _, i in d.parameters)
    texts: list[str] = []
    for place, (p, (_, i), own, shape) in enumerate(zip(parameters, d.parameters, ndims, shapes, strict=True)):
        made, number, missing = w.text(i), w.number(i), len(shape) - own
        if p.extent == "count":
            assert number is not None  # the front end takes nothing else
            texts.append(str(int(number)))
        elif number is not None and (family.tensors or (place == 0 and (numbers or not full))):
            texts.append(f"self.full({dims((made.text, *shape))})")
        else:
            aligned = _aligned(i, missing, w).text
            spread = missing > 0 and (family.tensors or (place == 0 and not full))
            texts.append(f"{aligned} + self.full({dims((0.0, *shape))})" if spread else aligned)
    return texts


def _aligned(i: ir.Id, missing: int, w: Writer) -> Text:
    """A parameter in front of the event's dimensions that it is `missing`."""
    made = w.text(i)
    if missing <= 0 or not w.layout(i).in_front:
        return made
    return Text(f"{made.atom}[{dims(['...', *['None'] * missing])}]", ATOM)


# --- log-densities and divergences, for losses


@dataclass(frozen=True, slots=True)
class Formula:
    """`sign` * (`elements` + `constant`): elementwise over an event of `ndim` dimensions, before any reduction.

    `summed` is the same summed over everything at once, where torch has one call for it.
    """

    elements: Text
    sign: int = 1
    ndim: int = 0
    constant: str = ""
    summed: str = ""

    def mean(self, rows: Rows) -> Text:
        """Summed over the event, averaged over the batch if there is one row for each datum."""
        each = rows is Rows.EACH
        if self.summed and each:
            return self._with_constant(Text(f"{self.summed} / n", PRODUCT))
        if self.ndim:
            text = Text(f"{self.elements.atom}.sum()", ATOM)
            return self._with_constant(Text(f"{text.text} / n", PRODUCT) if each else text)
        if rows is Rows.NONE:
            return self._with_constant(self.elements)
        return self._with_constant(Text(f"{self.elements.atom}.mean()", ATOM))

    def each(self) -> Text:
        """Summed over the event, one number for each datum (and copy)."""
        match self.ndim:
            case 0:
                return self._with_constant(self.elements)
            case 1:
                return self._with_constant(Text(f"{self.elements.atom}.sum(-1)", ATOM))
            case n:
                return self._with_constant(Text(f"{self.elements.atom}.flatten({-n}).sum(-1)", ATOM))

    def _with_constant(self, text: Text) -> Text:
        return Text(f"{text.first} + {self.constant}", SUM) if self.constant else text


def may_be_infinite(nodes: tuple[ir.Node, ...], i: ir.Id) -> bool:
    """Is a term made of a log-density of a bounded family?"""
    parts = (nodes[j] for j in (i, *upstream(nodes, i)))
    return any(isinstance(node, ir.LogProb) and node.density.family in BOUNDED for node in parts)


def log_prob(node: ir.LogProb, w: Writer) -> Formula:
    """A log-density, as a formula and its sign: what torch computes is most often the negative."""
    d = node.density
    known = LOG_PROBS.get((d.family, tuple(n for n, _ in d.parameters)))
    found = known(node, w) if known is not None else None
    if found is not None:
        return found
    value = w.text(node.value).text if node.value is not None else f"self.full({float(node.fixed or 0)})"
    if d.family == "Bernoulli" and node.value is not None and d.space.kind == "finite":
        value = f"{w.text(node.value).atom}.to(self.anchor.dtype)"
    return Formula(Text(f"{distribution(d, w, asked=True).text}.log_prob({value})", ATOM))


def _bernoulli(node: ir.LogProb, w: Writer) -> Formula:
    """-log Bernoulli: softplus(-logit) at 1, softplus(logit) at 0, the binary cross-entropy at data."""
    ((_, parameter),), n = node.density.parameters, len(node.density.space.shape)
    missing = n - node.density.ndim[0]
    if node.fixed is not None:
        logits, sign = w.text(parameter), "-" if node.fixed == 1 else ""
        softplus = "lasting" if node.lasting else "F.softplus"
        return Formula(Text(f"{softplus}({sign}{logits.atom if sign else logits.text})", ATOM), -1, n)
    assert node.value is not None
    value, known = w.text(node.value), w.layout(parameter)
    if not w.layout(node.value).plain or (known.in_front and not known.plain):
        w.named(parameter)
        logits = _aligned(parameter, missing, w)
        return Formula(Text(f"F.softplus({logits.text}) - {value.factor} * {logits.text}", SUM), -1, n)
    if node.density.space.kind == "finite":
        value = Text(f"{value.atom}.to(self.anchor.dtype)", ATOM)  # an index, where the cross-entropy needs a number
    logits = _aligned(parameter, missing, w)
    left = logits.text if known.plain and not missing else f"{logits.atom}.expand_as({value.atom})"
    called = f"F.binary_cross_entropy_with_logits({left}, {value.text}, reduction="
    return Formula(Text(f'{called}"none")', ATOM), -1, n, summed=f'{called}"sum")')


def _categorical(node: ir.LogProb, w: Writer) -> Formula | None:
    parameter = node.density.parameters[0][1]
    logits = w.text(parameter)
    if node.fixed is not None:
        return Formula(Text(f"F.log_softmax({logits.text}, -1)[..., {node.fixed}]", ATOM))
    assert node.value is not None
    if not (w.layout(parameter).plain and w.layout(node.value).plain):
        return None
    called = f"F.cross_entropy({logits.text}, {w.text(node.value).text}, reduction="
    return Formula(Text(f'{called}"none")', ATOM), -1, summed=f'{called}"sum")')


def _normal(node: ir.LogProb, w: Writer) -> Formula | None:
    """-log Normal: half the squared standard score, and the log of the scale."""
    return _located(node, w, "0.5 * {}.square()", "0.5 * math.log(2 * math.pi)", _squared_error)


def _laplace(node: ir.LogProb, w: Writer) -> Formula | None:
    """-log Laplace: the absolute standard score, and the log of twice the scale."""
    return _located(node, w, "{}.abs()", "math.log(2)", _absolute_error)


def _squared_error(loc: str, value: str, scale: float) -> str:
    return f'{0.5 / scale**2!r} * F.mse_loss({loc}, {value}, reduction="sum")'


def _absolute_error(loc: str, value: str, scale: float) -> str:
    error = f'F.l1_loss({loc}, {value}, reduction="sum")'
    return error if scale == 1.0 else f"{1 / scale!r} * {error}"


def _located(
    node: ir.LogProb, w: Writer, power: str, constant: str, error: Callable[[str, str, float], str]
) -> Formula | None:
    """A location-scale family whose parameters have the event's shape, or a number for its scale: then `error`, of
    location, value and scale, is all of it summed."""
    d = node.density
    (_, loc), (_, scale) = d.parameters
    full = len(d.space.shape)
    spread = w.nodes[scale]
    fixed = spread.number if isinstance(spread, ir.Constant) else None
    if node.value is None or d.ndim[0] != full or (fixed is None and d.ndim[1] != full):
        return None
    value, location = w.text(node.value), w.text(loc)
    difference = f"({value.first} - {location.factor})"
    times = f"{d.space.size} * " if d.space.size > 1 else ""
    rank = ATOM if power.startswith("{") else PRODUCT
    if fixed is not None:
        alike = all(w.layout(i).plain for i in (loc, node.value))
        summed = error(location.text, value.text, fixed) if alike else ""
        inner = power.format(difference if fixed == 1.0 else f"({difference} / {fixed!r})")
        width = "" if fixed == 1.0 else f" + {times}math.log({fixed!r})"
        return Formula(Text(inner, rank), -1, full, f"{times}{constant}{width}", summed)
    score = power.format(f"({difference} / {w.named(scale).atom})")
    return Formula(Text(f"{score} + {w.named(scale).atom}.log()", SUM), -1, full, times + constant)


LOG_PROBS: Mapping[tuple[str, tuple[str, ...]], Callable[[ir.LogProb, Writer], Formula | None]] = {
    ("Bernoulli", ("logits",)): _bernoulli,
    ("Categorical", ("logits",)): _categorical,
    ("Normal", ("loc", "scale")): _normal,
    ("Laplace", ("loc", "scale")): _laplace,
}


def kl(node: ir.KL, w: Writer) -> Formula:
    """KL[f || g], written out for a Normal against a standard one; not all of torch's spread f and g to one shape."""
    left, right = node.left, node.right
    trained = not any(isinstance(w.nodes[i], ir.Constant) for _, i in left.parameters)
    if left.family == right.family == "Normal" and trained and _is_standard(right, w.nodes) and _is_full(left):
        return _kl_to_standard(left, w)
    if left.family == right.family and left.family in DIVERGENCES:
        called, logs = DIVERGENCES[left.family]
        return Formula(Text(f"{called}({logs(left, w)}, {logs(right, w)})", ATOM), ndim=len(left.space.shape))
    f, g = (distribution(d, w).text for d in (left, right))
    shapes = [w.together(i for _, i in d.parameters) for d in (left, right)]
    alike = shapes[0] == shapes[1] and not shapes[0].lead
    return Formula(Text(f"kl_divergence({f}, {g})" if alike else f"kl_divergence(*spread({f}, {g}))", ATOM))


def _log_bits(d: ir.Density, w: Writer) -> str:
    """The log-probabilities of 0 and of 1, in a last dimension."""
    (made,) = _filled(d, w)
    return f"log_bits({made})" if d.parameters[0][0] == "logits" else f"log_shares(bits({made}))"


def _log_shares(d: ir.Density, w: Writer) -> str:
    """The log-probabilities of all classes."""
    (made,) = _filled(d, w)
    return f"F.log_softmax({made}, -1)" if d.parameters[0][0] == "logits" else f"log_shares({made})"


def _rate(d: ir.Density, w: Writer) -> str:
    return _filled(d, w)[0]


DIVERGENCES: Mapping[str, tuple[str, Callable[[ir.Density, Writer], str]]] = {
    "Bernoulli": ("relative", _log_bits),
    "Categorical": ("relative", _log_shares),
    "Geometric": ("relative_wait", _log_bits),
    "Poisson": ("relative_count", _rate),
}
"""Divergences of a family from itself that torch loses where a probability is 0 or 1 to rounding: a function of the
emitted module, and what it is given for each side."""


def _is_standard(d: ir.Density, nodes: tuple[ir.Node, ...]) -> bool:
    return [nodes[i] for _, i in d.parameters] == [ir.Constant(0.0), ir.Constant(1.0)]


def _is_full(d: ir.Density) -> bool:
    return all(n == len(d.space.shape) for n in d.ndim)


def _kl_to_standard(d: ir.Density, w: Writer) -> Formula:
    """KL[N(loc, scale^2) || N(0, 1)] = sum of (loc^2 + scale^2 - 1)/2 - log scale (Wu 13, Kingma and Welling B)."""
    (_, location), (_, spread) = d.parameters
    loc, root = w.text(location).atom, w.nodes[spread]
    if isinstance(root, ir.Apply) and root.operator == "sqrt" and isinstance(w.nodes[root.operands[0]], ir.Over):
        var = w.text(root.operands[0]).text
        return Formula(Text(f"0.5 * ({loc}.square() + {var} - 1 - {var}.log())", PRODUCT), ndim=len(d.space.shape))
    scale = w.named(spread).text
    inner = f"0.5 * ({loc}.square() + {scale}.square() - 1) - {scale}.log()"
    return Formula(Text(inner, SUM), ndim=len(d.space.shape))
