"""Families as torch: distributions for the laws, formulas for the losses.

Common densities and divergences are written out as an expert would; the rest go through `pyro.distributions`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jointkl.emission.text import ATOM, PRODUCT, SUM, Text, dims
from jointkl.objective import ir
from jointkl.semantics.families import FAMILIES, parameter_space

FUNCTIONS: Mapping[str, str] = {
    "exp": "{}.exp()",
    "log": "{}.log()",
    "sqrt": "{}.sqrt()",
    "softplus": "F.softplus({})",
    "sigmoid": "{}.sigmoid()",
    "tanh": "{}.tanh()",
    "softmax": "{}.softmax(-1)",
}
"""Functions of the language as torch, on an argument that needs no brackets."""

Write = Callable[[ir.Id], Text]
Batched = Callable[[ir.Id], bool]


@dataclass(frozen=True, slots=True)
class Writer:
    """What formulas are written with: the nodes, how one is written, and which have a batch dimension."""

    nodes: tuple[ir.Node, ...]
    write: Write
    named: Write
    """Written as a name, for what a formula uses twice."""
    batched: Batched
    leading: Batched
    """Which have dimensions before the batch's: importance-weighted copies, or every value of a discrete variable."""

    def text(self, i: ir.Id) -> Text:
        return self.write(i)

    def number(self, i: ir.Id) -> float | None:
        """The value of a node that is one number."""
        node = self.nodes[i]
        return node.number if isinstance(node, ir.Constant) else None


def reparameterised(d: ir.Density) -> bool:
    return FAMILIES[d.family].reparameterised


def distribution(d: ir.Density, w: Writer) -> Text:
    """`dist.Normal(loc, scale).to_event(1)`, its parameters filled to the shape of the event."""
    family = FAMILIES[d.family]
    event = len(d.space.shape) - family.event
    texts = _filled(d, w)
    named = [p.name for p in family.parameters[: len(texts)]] != [n for n, _ in d.parameters]
    positional = not (named or family.tensors)
    arguments = [
        t if positional and len(texts) > 1 else f"{name}={t}" for (name, _), t in zip(d.parameters, texts, strict=True)
    ]
    made = f"dist.{d.family}({', '.join(arguments)})"
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
            aligned = (
                f"{made.atom}[{dims(['...', *['None'] * missing])}]" if missing > 0 and w.batched(i) else made.text
            )
            spread = missing > 0 and (family.tensors or (place == 0 and not full))
            texts.append(f"{aligned} + self.full({dims((0.0, *shape))})" if spread else aligned)
    return texts


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
    whole: bool = False
    """Of the batch as a whole: there is nothing to average."""

    def mean(self, batched: bool) -> Text:
        """Summed over the event, averaged over the batch if there is one."""
        if self.summed and batched:
            return self._with_constant(Text(f"{self.summed} / n", PRODUCT))
        if not batched or self.whole:
            return self._with_constant(Text(f"{self.elements.atom}.sum()", ATOM) if self.ndim else self.elements)
        if self.ndim:
            return self._with_constant(Text(f"{self.elements.atom}.sum() / n", PRODUCT))
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
        return Text(f"{text.text} + {self.constant}", SUM) if self.constant else text


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
    return Formula(Text(f"{distribution(d, w).text}.log_prob({value})", ATOM))


def _bernoulli(node: ir.LogProb, w: Writer) -> Formula:
    """-log Bernoulli: softplus(-logit) at 1, softplus(logit) at 0, the binary cross-entropy at data."""
    logits = w.text(node.density.parameters[0][1])
    n = len(node.density.space.shape)
    if node.fixed is not None:
        sign = "-" if node.fixed == 1 else ""
        return Formula(Text(f"F.softplus({sign}{logits.atom if sign else logits.text})", ATOM), -1, n)
    assert node.value is not None
    value = w.text(node.value)
    parameter = node.density.parameters[0][1]
    if w.leading(parameter) or w.leading(node.value):
        logits = w.named(parameter)
        return Formula(Text(f"F.softplus({logits.text}) - {value.factor} * {logits.text}", SUM), -1, n)
    if node.density.space.kind == "finite":
        value = Text(f"{value.atom}.to(self.anchor.dtype)", ATOM)  # an index, where the cross-entropy needs a number
    left = logits.text if w.batched(parameter) else f"{logits.atom}.expand_as({value.atom})"
    called = f"F.binary_cross_entropy_with_logits({left}, {value.text}, reduction="
    return Formula(Text(f'{called}"none")', ATOM), -1, n, summed=f'{called}"sum")')


def _categorical(node: ir.LogProb, w: Writer) -> Formula | None:
    parameter = node.density.parameters[0][1]
    logits = w.text(parameter)
    if node.fixed is not None:
        return Formula(Text(f"F.log_softmax({logits.text}, -1)[..., {node.fixed}]", ATOM))
    assert node.value is not None
    if not w.batched(parameter) or w.leading(parameter) or w.leading(node.value):
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
    difference = f"({value.text} - {location.factor})"
    times = f"{d.space.size} * " if d.space.size > 1 else ""
    rank = ATOM if power.startswith("{") else PRODUCT
    if fixed is not None:
        alike = all(w.batched(i) and not w.leading(i) for i in (loc, node.value))
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
    f, g = (distribution(d, w).text for d in (left, right))
    leading, batched = (
        [any(is_so(i) for _, i in d.parameters) for d in (left, right)] for is_so in (w.leading, w.batched)
    )
    alike = not any(leading) and batched[0] == batched[1]
    return Formula(Text(f"kl_divergence({f}, {g})" if alike else f"kl_divergence(*spread({f}, {g}))", ATOM))


def _is_standard(d: ir.Density, nodes: tuple[ir.Node, ...]) -> bool:
    return [nodes[i] for _, i in d.parameters] == [ir.Constant(0.0), ir.Constant(1.0)]


def _is_full(d: ir.Density) -> bool:
    return all(n == len(d.space.shape) for n in d.ndim)


def _kl_to_standard(d: ir.Density, w: Writer) -> Formula:
    """KL[N(loc, scale^2) || N(0, 1)] = sum of (loc^2 + scale^2 - 1)/2 - log scale (Wu 13, Kingma and Welling B)."""
    (_, location), (_, spread) = d.parameters
    loc, scale = w.text(location).atom, w.named(spread).text
    inner = f"0.5 * ({loc}.square() + {scale}.square() - 1) - {scale}.log()"
    return Formula(Text(inner, SUM), ndim=len(d.space.shape))


def distance(node: ir.Distance, w: Writer) -> Formula:
    """||a - b||^2"""
    inner = f"({w.text(node.left).text} - {w.text(node.right).factor}).square()"
    return Formula(Text(inner, ATOM), ndim=len(node.space.shape))
