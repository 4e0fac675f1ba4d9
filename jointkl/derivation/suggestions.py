"""Goals and laws written anew, as the help of a refusal proposes them: each line stands in the spec as it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from jointkl.diagnostics import Span
from jointkl.semantics.model import Dirac, Divergence, Factor, Goal, Law, Model

_CLAUSE = re.compile(r"\b(?:over|with)\b")


def plain(span: Span) -> str:
    """A piece of the spec on one line, without comments."""
    words = " ".join(line.split("#", 1)[0] for line in span.text.split("\n")).split()
    return " ".join(words)


def goal_line(
    model: Model, goal: Goal, *options: str, without: Iterable[str] = (), objective: str | None = None
) -> str:
    """The goal with its clauses, `options` added and those named in `without` left out.

    `objective` is what stands in place of its direction and sum.
    """
    said = objective or _objective(goal)
    over = [model.laws[t].text if t in model.laws else t for t in goal.over or ()]
    replaced = {*without, *(o.split("=", 1)[0] for o in options)}
    kept = [plain(span) for name, span in goal.options.spans if name not in replaced]
    clauses = [f"over {', '.join(over)}" if over else "", ", ".join((*kept, *options))]
    return " ".join(filter(None, (said, clauses[0], f"with {clauses[1]}" if clauses[1] else "")))


def over_line(goal: Goal, over: Iterable[str]) -> str:
    """The goal's direction and sum, for those whom `over` is to name, without its options."""
    return f"{_objective(goal)} over {', '.join(over)}"


def _objective(goal: Goal) -> str:
    """The goal's direction and sum, without its clauses."""
    return _CLAUSE.split(plain(goal.span), maxsplit=1)[0].strip()


def reversed_line(model: Model, goal: Goal, divergence: Divergence, *options: str) -> str | None:
    """The goal with the sides of its divergence changed over; None where the goal is more than that divergence."""
    if len(goal.terms) != 1 or goal.terms[0] is not divergence or divergence.weight <= 0:
        return None
    left, right = (plain(side.span) for side in (divergence.left, divergence.right))
    turned = _objective(goal).replace(plain(divergence.span), f"{divergence.name}({right} || {left})")
    return goal_line(model, goal, *options, objective=turned)


def free_name(model: Model, wanted: Sequence[str] = ("T", "C", "D")) -> str:
    """A name for a new net, of no other meaning in the spec."""
    words = set(re.findall(r"[A-Za-z_]\w*", model.source.text))
    numbered = (f"{wanted[0]}{i}" for i in range(2, len(words) + 3))
    return next(name for name in (*wanted, *numbered) if name not in words)


def critic_lines(model: Model, goal: Goal, without: Iterable[str] = ()) -> tuple[str, ...]:
    """The goal with a critic, behind the net that it needs if it has none yet."""
    if goal.options.critic is not None:
        return (goal_line(model, goal, without=without),)
    net = free_name(model)
    return (f"net {net} = mlp(128, 128)", goal_line(model, goal, f"critic={net}", without=without))


def noisy(law: Law, family: str = "Normal") -> str | None:
    """A Dirac's law with noise around its value: `p(z|x) = Normal(E(x), 0.1)`."""
    value = _value(law)
    return f"{law.text} = {family}({value}, 0.1)" if value else None


def with_density(law: Law) -> str | None:
    """A Dirac's law with a density to stand in for its own: `q(x|z) = Delta(G(z), density=Laplace(1))`."""
    value = _value(law)
    return f"{law.text} = Delta({value}, density=Laplace(1))" if value else None


def _value(law: Law) -> str | None:
    found = re.fullmatch(r"Delta\s*\((.*)\)", plain(law.definition))
    return found[1] if found and isinstance(law.body, Dirac) and law.body.density is None else None


def dirac(model: Model, factor: Factor) -> Law | None:
    """The law of a factor, if it is a Dirac."""
    law = model.laws[factor.law]
    return law if isinstance(law.body, Dirac) else None
