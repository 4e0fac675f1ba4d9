"""Mistakes in joints: factors, products, mixtures. One named constructor each, span first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jointkl.diagnostics import Report, Span
from jointkl.semantics.spaces import Space
from jointkl.semantics.wording import line, meant, words

# --- factors


def unknown_label(
    span: Span,
    label: str,
    other: str | None,
    refused: str | None,
    families: Iterable[str],
    sources: Iterable[str],
    labels: Iterable[str],
) -> Report:
    """`other` is the name here of a family that is elsewhere called so; `refused` why Pyro's is none."""
    families, sources, labels = tuple(families), tuple(sources), tuple(labels)
    if refused:
        return Report(
            "E-LAW", f"Pyro's {label} is no family here", span, refused, help=(f"families: {words(families)}",)
        )
    help = (f"it is called `{other}` here",) if other else meant(label, (*labels, *families, *sources))
    all_of_them = (f"families: {words(families)}", f"sources: {words(sources)}", f"laws here: {words(labels, 12)}")
    return Report("E-LAW", f"nothing is called `{label}`", span, "no law, family or source", help=help or all_of_them)


def unknown_law(
    span: Span, text: str, others: Sequence[str], defined: Sequence[str], cause: Span | None, product: str | None
) -> Report:
    """`others` are laws over the same variables; `product` one of defined laws that would make this one."""
    did = " or ".join(f"`{other}`" for other in others)
    return Report(
        "E-LAW",
        f"no law `{text}` is defined",
        span,
        "not defined",
        ((cause, f"defined: {words(defined, 6)}"),) if cause else (),
        help=(f"did you mean {did}?" if others else f"define it: {text} = {product or 'Normal(0, 1)'}",),
    )


def not_a_law(span: Span, what: str, name: str, cause: Span | None, help: str) -> Report:
    return Report(
        "E-LAW",
        f"`{name}` is a {what}, not a law",
        span,
        f"a {what}",
        ((cause, "declared here"),) if cause else (),
        help=(help,),
    )


def no_variables(span: Span, label: str, defined: Sequence[str]) -> Report:
    return Report(
        "E-LAW",
        f"`{label}` is applied to no variable",
        span,
        help=(f"write its variables, as in {words(defined, 6) or label + '(x)'}",),
    )


def law_argument(span: Span, label: str, text: str) -> Report:
    return Report(
        "E-LAW",
        f"a law is applied to variables, and `{line(text, 30)}` is none",
        span,
        "no variable",
        help=(f"give the value a law of its own, r(v) = Delta({line(text, 30)}), and apply {label} to v",),
    )


def family_in_product(span: Span, family: str, text: str) -> Report:
    return Report(
        "E-LAW",
        f"the family {family} stands in a product",
        span,
        "not a law of the spec",
        help=(f"give it a law of its own, r(..) = {line(text)}, and multiply by r(..)",),
    )


def source_in_product(span: Span, source: str, text: str) -> Report:
    return Report(
        "E-SOURCE",
        f"the source `{source}` stands in a product",
        span,
        "not a law of the spec",
        help=(f"give it a law of its own, data(x) = {line(text)}, and multiply by data(x)",),
    )


def free_alone(span: Span, written: str) -> Report:
    return Report("E-FREE", "`Free` stands alone, without brackets", span, help=(f"{written} = Free",))


def repeated_variable(span: Span, name: str, first: Span) -> Report:
    return Report(
        "E-LAW",
        f"`{name}` stands twice in one law",
        span,
        "again here",
        ((first, "first here"),),
        help=(f"a copy of it is written `{name}'`",),
    )


def evidence_copies(span: Span, name: str, label: str) -> Report:
    return Report(
        "E-LAW",
        f"one draw of the data has one `{name}`",
        span,
        "a second one",
        help=(f"two independent draws are {label}({name}) * {label}({name}')",),
    )


# --- products and mixtures


def generated_twice(span: Span, name: str, first: Span) -> Report:
    return Report(
        "E-JOINT",
        f"`{name}` is generated twice in one product",
        span,
        "again here",
        ((first, "generated here"),),
        help=(f"a second value of the same variable is a copy: `{name}'`",),
    )


def generates_given(span: Span, name: str, cause: Span, help: str) -> Report:
    return Report(
        "E-JOINT",
        f"`{name}` is given to this law, and its right side generates it",
        span,
        "generated here",
        ((cause, "given here"),),
        help=(help,),
    )


def never_generated(span: Span, name: str, text: str, maker: str | None) -> Report:
    return Report(
        "E-JOINT",
        f"`{name}` is given to `{text}` and never generated",
        span,
        "nothing generates it",
        help=(
            f"multiply by its law: {maker} * {text}"
            if maker
            else f"multiply by a law that generates {name}, as in q({name}) = Normal(0, 1)",
        ),
    )


def cyclic(span: Span, names: Sequence[str], cause: Span | None) -> Report:
    shown = [*names[:8], *(["..."] if len(names) > 8 else []), names[0]]
    return Report(
        "E-JOINT",
        "these laws wait for each other: " + " -> ".join(shown),
        span,
        f"waits for {names[1 % len(names)]}",
        ((cause, f"waits for {names[2 % len(names)]}"),) if cause else (),
        help=("one of them must be a law without the others among its givens",),
    )


def made_of_itself(span: Span, laws: Sequence[str], cause: Span) -> Report:
    shown = [*laws[:8], *(["..."] if len(laws) > 8 else []), laws[0]]
    return Report(
        "E-JOINT",
        f"the joint `{laws[0]}` is made of itself" + (": " + " -> ".join(shown) if len(laws) > 1 else ""),
        span,
        "made of itself",
        ((cause, "by this factor"),),
        help=("give it a label of its own, or multiply the laws that it is made of",),
    )


def head_not_generated(span: Span, name: str, generated: Sequence[str], cause: Span, maker: str | None) -> Report:
    return Report(
        "E-JOINT",
        f"the head lists `{name}`, which the right side does not generate",
        span,
        "not generated",
        ((cause, f"generates {words(generated, 12)}"),),
        help=(f"multiply by {maker}" if maker else f"multiply by a law that generates {name}, or leave it out",),
    )


def weights_sum(weights: Sequence[tuple[Span, str]], total: str) -> Report:
    (span, first), *others = weights
    return Report(
        "E-WEIGHTS",
        f"the weights of the branches sum to {total}, not to 1",
        span,
        first,
        tuple(others[:4]),
        help=("make them sum to 1, or leave all of them out for equal ones",),
    )


def weights_missing(span: Span, cause: Span, text: str, rest: str | None) -> Report:
    """`rest` is what the other branches leave, if this one alone has no weight."""
    return Report(
        "E-WEIGHTS",
        "some branches have a weight and this one has none",
        span,
        "no weight",
        ((cause, "a weight"),),
        help=(f"{rest} * {line(text)}" if rest else "give each branch one, or leave all of them out for equal ones",),
    )


def weight_outside_mixture(span: Span) -> Report:
    return Report(
        "E-WEIGHTS",
        "a joint is a distribution: it takes no weight",
        span,
        "a weight",
        help=("weights belong to branches, { y=1: 0.3 * ..; y=0: 0.7 * .. }, and to terms of a goal, 0.3 * KL(..)",),
    )


def weight_range(span: Span, found: str) -> Report:
    return Report(
        "E-WEIGHTS",
        "the weight of a branch lies between 0 and 1",
        span,
        f"this is {found}",
        help=("leave all weights out for equal ones",),
    )


def label_mismatch(span: Span, first: str, found: str, cause: Span) -> Report:
    return Report(
        "E-LABEL",
        f"the branches are labelled by `{first}` and by `{found}`",
        span,
        "another label",
        ((cause, "the first"),),
        help=(f"write {first} here",),
    )


def label_repeated(span: Span, text: str, first: Span) -> Report:
    return Report(
        "E-LABEL",
        f"two branches are labelled {text}",
        span,
        "again here",
        ((first, "first here"),),
        help=("give this branch another value",),
    )


def label_value(span: Span, text: str, space: Space, cause: Span) -> Report:
    return Report(
        "E-LABEL",
        f"{text} is not a value of the label",
        span,
        f"not in {space}",
        ((cause, f"its values are {space}"),),
        help=("write one of its values, or declare another space for it",),
    )


def label_missing(span: Span, label: str, missing: Sequence[int], cause: Span) -> Report:
    shown = words((f"{label}={v}" for v in missing), 6)
    return Report(
        "E-LABEL",
        f"no branch for {shown}",
        span,
        "branches here",
        ((cause, "the label's values"),),
        help=(f"add a branch: {label}={missing[0]}: ...",),
    )


def label_not_finite(span: Span, label: str, space: Space, cause: Span) -> Report:
    return Report(
        "E-LABEL",
        f"the label `{label}` is {space}, not finite",
        span,
        "a label is finite",
        ((cause, "declared here"),),
        help=(f"var {label}: {{0, 1}}",),
    )


def label_generated(span: Span, label: str, cause: Span) -> Report:
    return Report(
        "E-LABEL",
        f"the label `{label}` is generated by its mixture, and here once more",
        span,
        "again here",
        ((cause, "the label"),),
        help=("label the branches by another variable",),
    )


def evidence_given(span: Span, text: str) -> Report:
    return Report(
        "E-LAW",
        "evidence is drawn all at once, given nothing",
        span,
        "after the bar",
        help=(f"write {text}",),
    )
