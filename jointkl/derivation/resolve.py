"""Names of laws and joints as a user writes them, `q(x | z)`: what they mean, whether defined or composed.

`q(x)` need not be defined: with `q(z)` and `q(x|z)` it is their product, z integrated out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from jointkl.derivation.expr import Share
from jointkl.derivation.facts import Facts
from jointkl.derivation.inline import paths
from jointkl.derivation.shifts import shifted
from jointkl.derivation.variables import variable
from jointkl.diagnostics import DataError, Refused, did_you_mean
from jointkl.semantics.joints import sampling_order
from jointkl.semantics.model import Branch, Evidence, Factor, Joint, Law, law_key, law_text

_NAME = r"[A-Za-z_][A-Za-z0-9_]*'*"
_LAW = re.compile(rf"({_NAME})\(({_NAME}(?:=\d+)?(?:,{_NAME}(?:=\d+)?)*)(?:\|({_NAME}(?:,{_NAME})*))?\)")


@dataclass(frozen=True, slots=True)
class Query:
    """A distribution that can be drawn: its variables, what it is given, and its paths in sampling order."""

    text: str
    head: tuple[str, ...]
    givens: tuple[str, ...]
    branches: tuple[Share, ...]
    label: tuple[str, tuple[int, ...]] | None = None
    """The label of a labelled mixture and its value on each branch."""


def normal(text: str) -> str:
    return re.sub(r"\s+", "", text)


def resolve(facts: Facts, text: str) -> Query:
    """The law, joint, branch (`q(x,y=1)`, of a hidden label too) or composed marginal that `text` names. Raises
    `DataError`."""
    found = _LAW.fullmatch(normal(text))
    if found is None:
        raise DataError(f"`{text}` names no law", "write it as in the spec: q(x), q(x|z), p(x,z)")
    label, outputs, givens = found[1], tuple(found[2].split(",")), tuple(found[3].split(",")) if found[3] else ()
    fixed = tuple(v for v in outputs if "=" in v)
    plain = tuple(v.split("=")[0] for v in outputs)
    key = law_key(label, plain, givens)
    law = facts.model.laws.get(key) or _hiding(facts, label, outputs, givens)
    if law is None:
        return _composed(facts, label, outputs, givens, text)
    return _defined(facts, law, plain, givens, fixed)


def _hiding(facts: Facts, label: str, outputs: tuple[str, ...], givens: tuple[str, ...]) -> Law | None:
    """The mixture of which `q(x,s=0)` names a branch where its label s is hidden."""
    law = facts.model.laws.get(law_key(label, tuple(v for v in outputs if "=" not in v), givens))
    labels = {v.split("=")[0] for v in outputs if "=" in v}
    return law if law is not None and isinstance(law.body, Joint) and {law.body.label} == labels else None


def _defined(
    facts: Facts, law: Law, outputs: tuple[str, ...], givens: tuple[str, ...], fixed: tuple[str, ...]
) -> Query:
    text = law_text(law.label, outputs, givens)
    if not isinstance(law.body, Joint):
        path = shifted(facts.model, (Factor(law.key, outputs, givens),))
        return Query(text, outputs, givens, ((Fraction(1), path),))
    branches = law.body.branches
    if fixed:
        branches = tuple(b for b in branches if f"{b.label}={b.value}" in fixed)
        if not branches:
            known = ", ".join(f"{b.label}={b.value}" for b in law.body.branches)
            raise DataError(f"{text} has no branch {', '.join(fixed)}", f"its branches are {known}")
        head = tuple(v for v in outputs if v != law.body.label)
        text = law_text(law.label, (*head, *fixed), givens)
        return Query(text, head, givens, _paths(facts, branches[0], text))
    opened = tuple((b.weight * w, path, b.value or 0) for b in branches for w, path in _paths(facts, b, text))
    visible = law.body.label if law.body.label in outputs else None
    label = (visible, tuple(value for _, _, value in opened)) if visible else None
    return Query(text, outputs, givens, tuple((w, path) for w, path, _ in opened), label)


def _paths(facts: Facts, branch: Branch, text: str) -> tuple[Share, ...]:
    try:
        return paths(facts, branch.factors)
    except Refused as refused:
        raise DataError(f"`{text}` cannot be drawn: {refused.report.message}", *refused.report.help) from None


def _composed(facts: Facts, label: str, outputs: tuple[str, ...], givens: tuple[str, ...], text: str) -> Query:
    """The product of the laws of one label that generate the variables and what they are given."""
    chosen: dict[str, Factor] = {}
    wanted = [v for v in outputs]
    while wanted:
        v = wanted.pop()
        if v in chosen or v in givens:
            continue
        makers = [
            law for law in facts.model.laws.values() if law.label == label and v in law.outputs and _is_plain(law)
        ]
        if len(makers) != 1:
            raise _unknown(facts, text, v, makers)
        law = makers[0]
        f = Factor(law.key, law.outputs, law.givens)
        chosen.update(dict.fromkeys(law.outputs, f))
        wanted += law.givens
    factors = tuple(dict.fromkeys(chosen.values()))
    try:
        ordered = sampling_order(factors, givens)
    except Refused as refused:
        raise DataError(f"`{text}` cannot be composed: {refused.report.message}") from None
    return Query(normal(text), outputs, givens, ((Fraction(1), shifted(facts.model, ordered)),))


def _is_plain(law: Law) -> bool:
    return not isinstance(law.body, Joint)


def _unknown(facts: Facts, text: str, variable: str, makers: list[Law]) -> DataError:
    known = tuple(law.text for law in facts.model.laws.values())
    if makers:
        several = ", ".join(law.text for law in makers)
        return DataError(f"`{text}` is not defined, and {variable} is generated by several: {several}")
    help = did_you_mean(normal(text), known) or (f"known: {', '.join(known)}",)
    return DataError(f"no law or joint `{text}`, and nothing to compose it of", *help)


def samplable(facts: Facts) -> tuple[Query, ...]:
    """What a run shows: for each label that is no evidence's, the variables that evidence gives, if it can draw them
    from laws without evidence, or a branch of a hidden mixture can, by laws as they are now. The first is the default
    of `jointkl sample`."""
    given = {variable(v).name for law in facts.model.evidence for v in law.outputs}
    labels = dict.fromkeys(law.label for law in facts.model.laws.values() if not isinstance(law.body, Evidence))
    found: list[Query] = []
    for label in labels:
        for v in (v for v in facts.model.variables if v in given):
            whole = f"{label}({v})"
            law = facts.model.laws.get(law_key(label, (v,), ()))
            branches = law.body.branches if law is not None and isinstance(law.body, Joint) else ()
            for text in (whole, *(f"{label}({v},{b.label}={b.value})" for b in branches if b.label)):
                try:
                    query = resolve(facts, text)
                except DataError:
                    break
                factors = [f for _, path in query.branches for f in path]
                taken = any(isinstance(facts.model.laws[f.law].body, Evidence) for f in factors)
                if taken or query.givens or (text != whole and any(f.old for f in factors)):
                    continue
                found.append(replace(query, text=text))
                if text == whole:
                    break
    return tuple(found)
