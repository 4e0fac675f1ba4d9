"""Families as torch: distributions for the laws, formulas for the losses.

Common densities and divergences are written out as an expert would; the rest go through `pyro.distributions`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from jointkl.emission.text import ATOM, PRODUCT, SUM, Text, dims
from jointkl.objective import ir
from jointkl.semantics.families import FAMILIES

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

Writer = Callable[[ir.Id], Text]
Batched = Callable[[ir.Id], bool]


def reparameterised(d: ir.Density) -> bool:
    return FAMILIES[d.family].reparameterised


def distribution(d: ir.Density, write: Writer, batched: Batched) -> Text:
    """`dist.Normal(loc, scale).to_event(1)`, its parameters filled to the shape of the event."""
    family = FAMILIES[d.family]
    event = len(d.space.shape) - family.event
    texts = _filled(d, write, batched)
    positional = [p.name for p in family.parameters[: len(texts)]] == [n for n, _ in d.parameters]
    arguments = [
        t if positional and len(texts) > 1 else f"{name}={t}" for (name, _), t in zip(d.parameters, texts, strict=True)
    ]
    made = f"dist.{d.family}({', '.join(arguments)})"
    return Text(made + (f".to_event({event})" if event > 0 else ""), ATOM)


def _filled(d: ir.Density, write: Writer, batched: Batched) -> list[str]:
    """The parameters' texts; where none has the event's shape the first is spread over it."""
    family = FAMILIES[d.family]
    need = {n: len(d.space.shape) + (1 if p and p.extent in ("matrix", "classes") else 0)
            for n, _ in d.parameters if (p := family.parameter(n)) is not None or True}  # fmt: skip
    ndims = d.ndim or tuple(0 for _ in d.parameters)
    texts: list[str] = []
    full = any(own == need[n] for (n, _), own in zip(d.parameters, ndims, strict=True))
    for place, ((name, i), own) in enumerate(zip(d.parameters, ndims, strict=True)):
        made = write(i)
        missing = need[name] - own
        if missing <= 0:
            texts.append(made.text)
            continue
        aligned = f"{made.atom}[{', '.join(['...', *['None'] * missing])}]" if batched(i) else made.text
        if not full and place == 0:
            shape = dims(d.space.shape)
            constant = made.text.replace(".", "", 1).replace("-", "", 1).isalnum() and not batched(i) and own == 0
            aligned = f"{aligned} + self.full(0.0, {shape})" if not constant else f"self.full({made.text}, {shape})"
        texts.append(aligned)
    if not d.space.shape and not full and all(t.replace(".", "", 1).replace("-", "", 1).isdigit() for t in texts):
        texts[0] = f"self.full({texts[0]})"
    return texts


# --- batch means of log-densities, for losses


def mean_log_prob(node: ir.LogProb, nodes: tuple[ir.Node, ...], write: Writer, batched: Batched) -> tuple[Text, int]:
    """The batch mean of a log-density and the sign that it is written with: `-mean` is (text, -1)."""
    d = node.density
    names = tuple(n for n, _ in d.parameters)
    writer = LOG_PROBS.get((d.family, names))
    if writer is not None:
        found = writer(node, nodes, write, batched)
        if found is not None:
            return found
    value = write(node.value).text if node.value is not None else f"self.full({float(node.fixed or 0)})"
    return Text(f"{distribution(d, write, batched).text}.log_prob({value}).mean()", ATOM), 1


def _bernoulli(node: ir.LogProb, nodes: tuple[ir.Node, ...], write: Writer, batched: Batched) -> tuple[Text, int]:
    """-log Bernoulli: softplus(-logit) at 1, softplus(logit) at 0, the binary cross-entropy at data."""
    logits = write(node.density.parameters[0][1])
    if node.fixed is not None:
        sign = "-" if node.fixed == 1.0 else ""
        return Text(f"F.softplus({sign}{logits.atom if sign else logits.text}).mean()", ATOM), -1
    assert node.value is not None
    value = write(node.value).text
    if not batched(node.density.parameters[0][1]):
        logits = Text(f"{logits.atom}.expand_as({write(node.value).atom})", ATOM)
    if not node.density.space.shape:
        return Text(f"F.binary_cross_entropy_with_logits({logits.text}, {value})", ATOM), -1
    return Text(f'F.binary_cross_entropy_with_logits({logits.text}, {value}, reduction="sum") / n', PRODUCT), -1


def _categorical(
    node: ir.LogProb, nodes: tuple[ir.Node, ...], write: Writer, batched: Batched
) -> tuple[Text, int] | None:
    logits = write(node.density.parameters[0][1])
    if node.fixed is not None:
        return Text(f"F.log_softmax({logits.text}, -1)[..., {node.fixed}].mean()", ATOM), 1
    assert node.value is not None
    if not batched(node.density.parameters[0][1]):
        return None
    return Text(f"F.cross_entropy({logits.text}, {write(node.value).text})", ATOM), -1


def _normal(node: ir.LogProb, nodes: tuple[ir.Node, ...], write: Writer, batched: Batched) -> tuple[Text, int] | None:
    """-log Normal: half the squared standard score, and the log of the scale."""
    return _located(node, nodes, write, 0.5, "{}.square()", 0.5 * math.log(2 * math.pi), "0.5 * math.log(2 * math.pi)")


def _laplace(node: ir.LogProb, nodes: tuple[ir.Node, ...], write: Writer, batched: Batched) -> tuple[Text, int] | None:
    """-log Laplace: the absolute standard score, and the log of twice the scale."""
    return _located(node, nodes, write, 1.0, "{}.abs()", math.log(2), "math.log(2)")


def _located(
    node: ir.LogProb, nodes: tuple[ir.Node, ...], write: Writer, half: float, power: str, constant: float, shown: str
) -> tuple[Text, int] | None:
    """A location-scale family whose parameters have the event's shape, or a number for its scale."""
    d = node.density
    (_, loc), (_, scale) = d.parameters
    full = len(d.space.shape)
    spread = nodes[scale]
    fixed = spread.number if isinstance(spread, ir.Constant) else None
    if node.value is None or d.ndim[0] != full or (fixed is None and d.ndim[1] != full):
        return None
    difference = f"({write(node.value).text} - {write(loc).factor})"
    size = d.space.size
    if fixed is not None:
        score = difference if fixed == 1.0 else f"({difference} / {fixed!r})"
        inner = power.format(score)
        lead = f"{half!r} * " if half != 1 else ""
        mean = f"{lead}{inner}.sum() / n" if full else f"{lead}{inner}.mean()"
        rest = f" + {size} * {shown}" if size > 1 else f" + {shown}"
        logs = "" if fixed == 1.0 else f" + {size} * math.log({fixed!r})" if size > 1 else f" + math.log({fixed!r})"
        return Text(f"{mean}{rest}{logs}", SUM), -1
    inner = power.format(f"({difference} / {write(scale).atom})")
    lead = f"{half!r} * " if half != 1 else ""
    body = f"({lead}{inner} + {write(scale).atom}.log())"
    mean = f"{body}.sum() / n" if full else f"{body}.mean()"
    rest = f" + {size} * {shown}" if size > 1 else f" + {shown}"
    return Text(f"{mean}{rest}", SUM), -1


LOG_PROBS: Mapping[
    tuple[str, tuple[str, ...]],
    Callable[[ir.LogProb, tuple[ir.Node, ...], Writer, Batched], tuple[Text, int] | None],
] = {
    ("Bernoulli", ("logits",)): _bernoulli,
    ("Categorical", ("logits",)): _categorical,
    ("Normal", ("loc", "scale")): _normal,
    ("Laplace", ("loc", "scale")): _laplace,
}


# --- closed divergences


def mean_kl(node: ir.KL, nodes: tuple[ir.Node, ...], write: Writer, batched: Batched) -> Text:
    """The batch mean of KL[f || g]."""
    left, right = node.left, node.right
    if left.family == right.family == "Normal" and _is_standard(right, nodes) and _is_full(left):
        return _kl_to_standard(left, write)
    made = f"kl_divergence({distribution(left, write, batched).text}, {distribution(right, write, batched).text})"
    return Text(f"{made}.mean()", ATOM)


def _is_standard(d: ir.Density, nodes: tuple[ir.Node, ...]) -> bool:
    return [nodes[i] for _, i in d.parameters] == [ir.Constant(0.0), ir.Constant(1.0)]


def _is_full(d: ir.Density) -> bool:
    return all(n == len(d.space.shape) for n in d.ndim)


def _kl_to_standard(d: ir.Density, write: Writer) -> Text:
    """KL[N(loc, scale^2) || N(0, 1)] = sum of (loc^2 + scale^2 - 1)/2 - log scale (Wu 13, Kingma and Welling B)."""
    loc, scale = (write(i) for _, i in d.parameters)
    inner = f"(0.5 * ({loc.atom}.square() + {scale.atom}.square() - 1) - {scale.atom}.log())"
    return Text(f"{inner}.sum() / n" if d.space.shape else f"{inner}.mean()", PRODUCT)
