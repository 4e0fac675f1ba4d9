"""Functions of the emitted module: what its losses and laws call, as text."""

from __future__ import annotations

from collections.abc import Mapping


def _bounded(family: str, somewhere: str) -> tuple[str, ...]:
    """A family whose parameters bound its values, as a class; `somewhere` is a value inside."""
    return (
        f"class {family}(Within, dist.{family}):",
        "    @property",
        "    def somewhere(self) -> Tensor:",
        f"        return {somewhere}",
    )


WITHIN = (
    "class Within:",
    '    """A law that may be asked for any value: its log density is minus infinity outside its support."""',
    "",
    "    def log_prob(self, value: Tensor) -> Tensor:",
    "        inside = self.support.check(value) | value.isnan()",
    "        found = super().log_prob(torch.where(inside, value, self.somewhere.to(value.dtype)))",
    "        return found.masked_fill(~inside, -math.inf)",
)
"""What the classes of bounded families inherit."""

BOUNDED: Mapping[str, tuple[str, ...]] = {
    "Uniform": _bounded("Uniform", "(self.low + self.high) / 2"),
    "Pareto": _bounded("Pareto", "2 * self.scale"),
    "AffineBeta": _bounded("AffineBeta", "self.loc + self.scale / 2"),
    "Binomial": _bounded("Binomial", "torch.zeros_like(self.total_count)"),
    "BetaBinomial": _bounded("BetaBinomial", "torch.zeros_like(self.total_count)"),
}
"""Families whose parameters bound their values, as classes of the emitted module."""

FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    **BOUNDED,
    "counted": (
        "def counted(p: Tensor, cost: Tensor) -> Tensor:",
        '    """p times a cost; nothing where p is 0, be the cost infinite."""',
        "    return p * torch.where(p == 0, 0.0, cost)",
    ),
    "log_total": (
        "def log_total(logs: Tensor) -> Tensor:",
        '    """logsumexp over the first dimension; minus infinity, without gradient, where all are."""',
        "    none = (logs == -math.inf).all(0)",
        "    return logs.masked_fill(none, 0.0).logsumexp(0).masked_fill(none, -math.inf)",
    ),
    "log_either": (
        "def log_either(a: Tensor, b: Tensor) -> Tensor:",
        '    """logaddexp; minus infinity, without gradient, where both are."""',
        "    return log_total(torch.stack(torch.broadcast_tensors(a, b)))",
    ),
    "rows": (
        "def rows(batch: dict[str, Tensor]) -> int:",
        '    """How many data a batch holds. Raises `ValueError` for an empty one."""',
        "    for values in batch.values():",
        "        return len(values)",
        "    raise ValueError(\"an empty batch: give the values of the evidence, as in {'x': x}\")",
    ),
    "moved": (
        "def moved(values: Tensor, rows: int) -> Tensor:",
        '    """Independent draws from a minibatch: its values, moved on by so many rows.',
        "",
        "    Raises `ValueError` where that is every row back in its place, or further.",
        '    """',
        "    if len(values) > rows:",
        "        return values.roll(rows, 0)",
        '    raise ValueError(f"a batch of {len(values)} holds no {rows + 1} independent draws for each datum")',
    ),
    "rows_beside": (
        "def rows_beside(batch: dict[str, Tensor], *once: str) -> int:",
        '    """How many data a batch holds, its values of globals aside. Raises `ValueError` for an empty one."""',
        "    for key, values in batch.items():",
        "        if key not in once:",
        "            return len(values)",
        "    raise ValueError(\"an empty batch: give the values of the evidence, as in {'x': x}\")",
    ),
    "joined": (
        "def joined(*parts: Tensor) -> Tensor:",
        '    """Inputs side by side, their leading dimensions spread to one shape."""',
        "    shape = torch.broadcast_shapes(*(p.shape[:-1] for p in parts))",
        "    return torch.cat([p.expand(*shape, -1) for p in parts], -1)",
    ),
    "Residual": (
        "class Residual(nn.Module):",
        '    """What is added to an input, which a shortcut brings to its size where that changes."""',
        "",
        "    def __init__(self, layers: nn.Module, shortcut: nn.Module | None = None) -> None:",
        "        super().__init__()",
        "        self.layers = layers",
        "        self.shortcut = nn.Identity() if shortcut is None else shortcut",
        "",
        "    def forward(self, x: Tensor) -> Tensor:",
        "        return self.shortcut(x) + self.layers(x)",
    ),
    "spread": (
        "def spread(*laws: dist.Distribution) -> list[dist.Distribution]:",
        '    """Distributions of one batch shape."""',
        "    shape = torch.broadcast_shapes(*(d.batch_shape for d in laws))",
        "    return [d.expand(shape) for d in laws]",
    ),
    "over": (
        "def over(law: dist.Distribution, n: int) -> dist.Distribution:",
        '    """A distribution of its own for each of n data."""',
        "    return law.expand(torch.broadcast_shapes(law.batch_shape, (n,)))",
    ),
    "pick": (
        "def pick(x: Tensor, index: Tensor, behind: int = 0) -> Tensor:",
        '    """The entries of x at an index of their own for each datum, in the last dimension but so many."""',
        "    x = x.movedim(-1 - behind, -1)",
        "    index = index.reshape(*index.shape, *[1] * (behind + 1))",
        "    lead = torch.broadcast_shapes(x.shape[:-1], index.shape[:-1])",
        "    return x.expand(*lead, -1).gather(-1, index.expand(*lead, 1)).squeeze(-1)",
    ),
    "log_bits": (
        "def log_bits(logit: Tensor) -> Tensor:",
        '    """The log-probabilities of 0 and 1, in a last dimension."""',
        "    return F.logsigmoid(torch.stack([-logit, logit], -1))",
    ),
    "bits": (
        "def bits(p: Tensor) -> Tensor:",
        '    """The probabilities of 0 and 1, in a last dimension."""',
        "    return torch.stack([1 - p, p], -1)",
    ),
    "log_shares": (
        "def log_shares(p: Tensor) -> Tensor:",
        '    """The logarithms of probabilities; minus infinity, and no gradient, where there is none."""',
        "    p = p / p.sum(-1, keepdim=True)",
        "    none = p <= 0",
        "    return p.masked_fill(none, 1.0).log().masked_fill(none, -math.inf)",
    ),
    "relative": (
        "def relative(log_p: Tensor, log_q: Tensor) -> Tensor:",
        '    """sum of p (log p - log q) over the last dimension; nothing where p is 0."""',
        "    p = log_p.exp()",
        "    return (p * (log_p - log_q).masked_fill(p == 0, 0.0)).sum(-1)",
    ),
    "relative_wait": (
        "def relative_wait(log_p: Tensor, log_q: Tensor) -> Tensor:",
        '    """KL of geometric laws, of the log-probabilities that a trial fails and that it does not."""',
        "    fails, ends = (log_p - log_q).unbind(-1)",
        "    mean = (log_p[..., 0] - log_p[..., 1]).exp()",
        "    return mean * fails.masked_fill(mean == 0, 0.0) + ends",
    ),
    "relative_count": (
        "def relative_count(p: Tensor, q: Tensor) -> Tensor:",
        '    """KL of Poisson laws, of their rates."""',
        "    none = p == 0",
        "    return p * (p.masked_fill(none, 1.0).log() - q.masked_fill(none, 1.0).log()) - p + q",
    ),
    "rescale": (
        "def rescale(x: Tensor, scale: float | Tensor) -> None:",
        '    """Multiply the gradient that arrives at x, datum by datum."""',
        "    if x.requires_grad:",
        "        x.register_hook(lambda g: (g.movedim(0, -1) * scale).movedim(-1, 0))",
    ),
    "lasting": (
        "def lasting(x: Tensor) -> Tensor:",
        '    """softplus(x), its slope so little more that it never vanishes: what `rescale` divides by."""',
        "    limits = torch.finfo(x.dtype)",
        "    within = x.clamp(limits.min, limits.max)",
        "    return F.softplus(x) + limits.tiny**0.5 * (within - within.detach())",
    ),
    "steep": (
        "def steep(x: Tensor) -> Tensor:",
        '    """The slope of `lasting` at x."""',
        "    return x.detach().sigmoid() + torch.finfo(x.dtype).tiny ** 0.5",
    ),
    "advantage": (
        "def advantage(cost: Tensor) -> Tensor:",
        '    """Each cost less the mean of the others; one alone as it is."""',
        "    n = cost.shape[-1]",
        "    return cost if n == 1 else (cost - cost.mean(-1, keepdim=True)) * (n / (n - 1))",
    ),
    "moments": (
        "def moments(x: Tensor) -> tuple[Tensor, Tensor]:",
        '    """Variance and mean over the batch."""',
        "    return torch.var_mean(x, 0, correction=0)",
    ),
    "agreed": (
        "def agreed(*sizes: int | None) -> int | None:",
        '    """The one size of sources whose data stand in one joint. Raises `ValueError` where they differ."""',
        "    if len(set(sizes)) > 1:",
        '        raise ValueError(f"a joint with globals is over N data, and its sources differ: {sizes}")',
        "    return sizes[0]",
    ),
    "hinge": (
        "def hinge(mean: Tensor) -> Tensor:",
        '    """max(0, mean), of a mean over the batch."""',
        "    return F.relu(mean)",
    ),
}
"""Functions of the emitted module, each written where it is called."""

USES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(BOUNDED, ("math",)),
    "log_total": ("math",),
    "log_either": ("log_total", "math"),
    "log_bits": ("F",),
    "log_shares": ("math",),
    "lasting": ("F",),
    "hinge": ("F",),
}
"""What the functions use themselves, of each other and of what a module imports."""
