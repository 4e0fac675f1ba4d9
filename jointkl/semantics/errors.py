"""Mistakes of meaning: one named constructor each, span first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jointkl.diagnostics import Report, Span, did_you_mean
from jointkl.semantics.spaces import Space


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"`{n}`" for n in names)


# --- names


def unknown(span: Span, what: str, name: str, known: Iterable[str]) -> Report:
    known = tuple(known)
    help = did_you_mean(name, known)
    if not help and known and len(known) <= 12:
        help = (f"known here: {', '.join(sorted(known))}",)
    return Report("E-NAME", f"no {what} is called `{name}`", span, "not declared", help=help)


def declared_twice(span: Span, what: str, name: str, first: Span) -> Report:
    return Report(
        "E-NAME",
        f"the {what} `{name}` is declared twice",
        span,
        "here again",
        ((first, "first here"),),
        help=("remove one, or rename it",),
    )


def primed_declaration(span: Span, what: str) -> Report:
    return Report(
        "E-NAME",
        f"the name of a {what} bears a prime",
        span,
        "a prime marks the copy of a variable",
        help=(f"declare `{span.text.rstrip(chr(39))}`",),
    )


def name_clash(span: Span, name: str, what: str, other: str, first: Span | None) -> Report:
    causes = ((first, f"a {other} here"),) if first else ()
    return Report(
        "E-CLASH",
        f"`{name}` names a {what} and a {other}",
        span,
        f"the {what}",
        causes,
        help=("labels, nets, params, constants and sources share one namespace: rename one",),
    )


# --- constants and spaces


def not_a_constant(span: Span, why: str) -> Report:
    return Report("E-CONSTANT", f"this must be a constant: {why}", span)


def bad_number(span: Span, need: str, found: str) -> Report:
    return Report("E-NUMBER", f"{need} is needed here", span, f"this is {found}")


def circular_constant(span: Span, name: str) -> Report:
    return Report("E-CONSTANT", f"the constant `{name}` is defined by itself", span)


def too_large(span: Span, what: str, limit: int) -> Report:
    return Report("E-NUMBER", f"{what} is larger than {limit:,}", span, "too large")


def unknown_override(name: str, span: Span, known: Iterable[str]) -> Report:
    return Report(
        "E-NAME", f"--let names `{name}`, which is no constant of this spec", span, help=did_you_mean(name, known)
    )


def bad_space(span: Span, why: str, help: str) -> Report:
    return Report("E-SPACE", why, span, help=(help,))


# --- laws


def unknown_law(span: Span, text: str, same_label: Sequence[str], label: str, callees: Iterable[str]) -> Report:
    if same_label:
        help = (f"`{label}` is a label of " + ", ".join(f"`{s}`" for s in same_label),)
        message = f"no law `{text}`: the label `{label}` is applied to other variables"
        return Report("E-LAW", message, span, "not defined", help=(*help, f"define it: {text} = ..."))
    guess = did_you_mean(label, callees)
    return Report("E-LAW", f"nothing is called `{label}`", span, "not a law, a family or a source", help=guess)


def broken_law(span: Span, text: str) -> Report:
    return Report("E-LAW", f"`{text}` is used here, and its definition is wrong", span, "see the mistakes above")


def law_argument(span: Span, text: str) -> Report:
    return Report(
        "E-LAW",
        f"a law is applied to variables, and `{text}` is none",
        span,
        help=("give the value a law of its own: r(v) = Delta(...)",),
    )


def family_in_product(span: Span, family: str) -> Report:
    return Report(
        "E-LAW",
        f"the family {family} stands in a product",
        span,
        help=(f"give it a law of its own, r(..) = {family}(..), and multiply by r(..)",),
    )


def repeated_variable(span: Span, name: str) -> Report:
    return Report("E-LAW", f"`{name}` stands twice in one law", span, help=(f"a copy of it is written `{name}'`",))


def not_covered(
    span: Span, family: str, support: str, name: str, space: Space, cause: Span, fits: Iterable[str]
) -> Report:
    return Report(
        "E-SUPPORT",
        f"{family} cannot cover `{name}`: its values are {support}, the variable's {space}",
        span,
        f"{family} has support {support}",
        ((cause, f"`{name}` is {space}"),),
        help=(f"families for {space.kind} variables: " + ", ".join(fits),),
    )


def one_output(span: Span, what: str, outputs: Sequence[str]) -> Report:
    return Report(
        "E-LAW",
        f"{what} is the law of one variable, not of {_list(outputs)}",
        span,
        help=("write one law for each variable and multiply them",),
    )


def parameter_missing(span: Span, family: str, name: str, names: Sequence[str]) -> Report:
    return Report(
        "E-PARAMETER",
        f"{family} needs its parameter `{name}`",
        span,
        help=(f"{family}({', '.join(names)}), in this order or by name",),
    )


def parameter_unknown(span: Span, family: str, name: str, names: Sequence[str]) -> Report:
    help = did_you_mean(name, names) or (f"its parameters are {', '.join(names)}",)
    return Report("E-PARAMETER", f"{family} has no parameter `{name}`", span, help=help)


def parameter_twice(span: Span, family: str, name: str) -> Report:
    return Report("E-PARAMETER", f"the parameter `{name}` of {family} is given twice", span)


def too_many_parameters(span: Span, family: str, names: Sequence[str]) -> Report:
    return Report("E-PARAMETER", f"{family} takes {len(names)}: {', '.join(names)}", span, "one too many")


def parameter_shape(span: Span, name: str, found: tuple[int, ...], need: tuple[int, ...]) -> Report:
    return Report(
        "E-SHAPE",
        f"the parameter `{name}` has shape {list(found)}, and the variable needs {list(need)}",
        span,
        f"shape {list(found)}",
        help=("a number fills the shape; anything else must have it",),
    )


def parameter_value(span: Span, family: str, name: str, need: str, found: float) -> Report:
    return Report("E-PARAMETER", f"`{name}` of {family} must be {need}", span, f"this is {found:g}")


def probabilities_sum(span: Span, total: float) -> Report:
    return Report("E-PARAMETER", f"the probabilities sum to {total:g}, not to 1", span)


def needs_keyword(span: Span, family: str, text: str) -> Report:
    return Report(
        "E-PARAMETER",
        f"is this {family}'s probability or its logit?",
        span,
        "an expression that contains a net",
        help=(f"{family}(logits={text})", f"or {family}(probs={text})"),
    )


def no_heads(span: Span, family: str) -> Report:
    return Report(
        "E-PARAMETER",
        f"a net alone cannot supply every parameter of {family}",
        span,
        help=(f"name the parameters: {family}(name=..., ...)",),
    )


def free_needs_finite(span: Span, name: str, space: Space, cause: Span) -> Report:
    return Report(
        "E-FREE",
        f"`Free` is a law over a finite space, and `{name}` is {space}",
        span,
        causes=((cause, f"`{name}` is declared here"),),
        help=(f"give it a family, as in Normal(E(..)), or declare var {name}: {{0..K-1}}",),
    )


# --- values


def not_given(span: Span, name: str, givens: Sequence[str]) -> Report:
    among = f"its givens are {_list(givens)}" if givens else "it has no givens"
    return Report(
        "E-GIVEN",
        f"`{name}` is used by a law that is not given it",
        span,
        among,
        help=(f"write {name} after the bar on the left: (.. | {', '.join([*givens, name])})",),
    )


def argument_count(span: Span, name: str, need: str, found: int) -> Report:
    return Report("E-VALUE", f"`{name}` takes {need}, not {found}", span)


def bad_operands(span: Span, why: str) -> Report:
    return Report("E-SHAPE", why, span)


def needs_output(span: Span, net: str, cause: Span) -> Report:
    return Report(
        "E-NET",
        f"the size of `{net}`'s output does not follow from here",
        span,
        "used inside an expression",
        ((cause, "declared without one"),),
        help=(f"state it: net {net}: real[128] = ...",),
    )


def two_sizes(span: Span, net: str, found: str, other: str, first: Span) -> Report:
    return Report(
        "E-NET",
        f"the net `{net}` is used at two different sizes",
        span,
        found,
        ((first, other),),
        help=("use two nets, or map both to one size",),
    )


def unused_net(span: Span, net: str) -> Report:
    return Report(
        "E-NET", f"the net `{net}` is applied nowhere", span, help=(f"use it in a law, or remove `net {net}`",)
    )


# --- sources and builders


def option_unknown(span: Span, owner: str, name: str, known: Iterable[str]) -> Report:
    known = tuple(known)
    listed = f"its options are {', '.join(known)}" if known else "it takes none"
    return Report("E-OPTION", f"`{owner}` has no option `{name}`", span, help=did_you_mean(name, known) or (listed,))


def option_value(span: Span, name: str, need: str, found: str) -> Report:
    return Report("E-OPTION", f"`{name}` must be {need}", span, f"this is {found}")


def too_many_columns(span: Span, source: str, columns: Sequence[str], outputs: int) -> Report:
    return Report(
        "E-SOURCE",
        f"`{source}` gives {len(columns)} columns, and {outputs} variables are bound to it",
        span,
        help=(f"its columns are, by position: {', '.join(columns)}",),
    )


def column_space(span: Span, source: str, column: Space, name: str, space: Space, cause: Span, help: str) -> Report:
    return Report(
        "E-SOURCE",
        f"`{source}` gives {column}, which does not fit `{name}`: {space}",
        span,
        f"gives {column}",
        ((cause, f"`{name}` is {space}"),),
        help=(help,),
    )


def source_with_givens(span: Span, source: str) -> Report:
    return Report(
        "E-SOURCE",
        f"the source `{source}` gives draws of its variables together, with no givens",
        span,
        help=("write all variables before the bar: data(x, c) = ...",),
    )


def source_in_product(span: Span, source: str) -> Report:
    return Report(
        "E-SOURCE",
        f"the source `{source}` stands in a product",
        span,
        help=(f"give it a law of its own, data(x) = {source}(..), and multiply by data(x)",),
    )


def not_yet(span: Span, what: str) -> Report:
    return Report("E-NOT-YET", f"not derived yet: {what}", span, "read, checked, and refused for now")


# --- joints


def generated_twice(span: Span, name: str, first: Span) -> Report:
    return Report(
        "E-JOINT",
        f"`{name}` is generated twice in one product",
        span,
        "again here",
        ((first, "generated here"),),
        help=(f"a second value of the same variable is a copy: `{name}'`",),
    )


def never_generated(span: Span, name: str, text: str) -> Report:
    return Report(
        "E-JOINT",
        f"`{name}` is given to `{text}` and never generated",
        span,
        "its given",
        help=(f"multiply by a law that generates {name}, as in q({name}) * {text}",),
    )


def cyclic(span: Span, names: Sequence[str]) -> Report:
    return Report(
        "E-JOINT",
        "these laws wait for each other: " + " -> ".join([*names, names[0]]),
        span,
        "a cyclic factorisation",
        help=("one of them must be a law without the others among its givens",),
    )


def head_not_generated(span: Span, name: str, generated: Sequence[str]) -> Report:
    return Report(
        "E-JOINT",
        f"the head lists `{name}`, which the right side does not generate",
        span,
        help=(f"it generates {', '.join(generated)}",),
    )


def weights_sum(span: Span, total: str) -> Report:
    return Report(
        "E-WEIGHTS",
        f"the weights of the branches sum to {total}, not to 1",
        span,
        help=("leave all weights out for equal ones, or give each branch one",),
    )


def weights_missing(span: Span) -> Report:
    return Report("E-WEIGHTS", "some branches have a weight and this one has none", span)


def weight_outside_mixture(span: Span) -> Report:
    return Report(
        "E-WEIGHTS",
        "a joint is a distribution: it takes no weight",
        span,
        help=("weights belong to branches and goals",),
    )


def weight_range(span: Span, found: str) -> Report:
    return Report("E-WEIGHTS", "the weight of a branch lies between 0 and 1", span, f"this is {found}")


def label_mismatch(span: Span, first: str, found: str) -> Report:
    return Report("E-LABEL", f"the branches are labelled by `{first}` and by `{found}`", span, help=("use one label",))


def label_repeated(span: Span, text: str) -> Report:
    return Report("E-LABEL", f"two branches are labelled {text}", span)


def label_value(span: Span, text: str, space: Space, cause: Span) -> Report:
    return Report("E-LABEL", f"{text} is not a value of the label", span, causes=((cause, f"its values are {space}"),))


def label_missing(span: Span, label: str, missing: Sequence[int], cause: Span) -> Report:
    return Report(
        "E-LABEL",
        f"no branch for {', '.join(f'{label}={v}' for v in missing)}",
        span,
        causes=((cause, "the label's values"),),
        help=("give every value of the label a branch",),
    )


def label_not_finite(span: Span, label: str, space: Space, cause: Span) -> Report:
    return Report(
        "E-LABEL",
        f"the label `{label}` is {space}, not finite",
        span,
        causes=((cause, "declared here"),),
        help=(f"var {label}: {{0, 1}}",),
    )


# --- goals


def unknown_divergence(span: Span, name: str) -> Report:
    return Report(
        "E-GOAL",
        f"no divergence is called `{name}`",
        span,
        help=did_you_mean(name, ("KL", "CE", "R1")) or ("KL(P || Q), CE(P || Q) or R1(P || classifier)",),
    )


def different_variables(span: Span, left: Sequence[str], right: Sequence[str]) -> Report:
    only_left = [v for v in left if v not in right]
    only_right = [v for v in right if v not in left]
    parts = [
        f"{_list(names)} only on the {side}" for names, side in ((only_left, "left"), (only_right, "right")) if names
    ]
    return Report(
        "E-GOAL",
        "the joints are over different variables",
        span,
        "; ".join(parts),
        help=(
            "KL compares two joints over the same variables: integrate the others out, or generate them on both sides",
        ),
    )


def cross_entropy_variables(span: Span, names: Sequence[str]) -> Report:
    return Report(
        "E-GOAL",
        f"CE(P || Q) averages -log Q under P, and P does not generate {_list(names)}",
        span,
        help=("every variable of Q must stand in P's head",),
    )


def constant_term(span: Span) -> Report:
    return Report("E-GOAL", "a number alone is no term of a goal", span, help=("scale a term with it: 2 * KL(..)",))


def hinge_floor(span: Span) -> Report:
    return Report("E-GOAL", "a hinge starts at 0", span, help=("max(0, m - KL(..))",))


def target_unknown(span: Span, name: str, known: Iterable[str]) -> Report:
    return Report("E-NAME", f"`{name}` is nothing that can be trained", span, help=did_you_mean(name, known)
                  or ("nets, params and Free laws are trained",))  # fmt: skip


def in_two_players(span: Span, name: str, first: Span) -> Report:
    return Report("E-PLAYER", f"`{name}` is in two players", span, causes=((first, "the first"),))


def bad_option(span: Span, name: str, need: str) -> Report:
    return Report("E-OPTION", f"`{name}` is {need}", span)


def no_goal(span: Span) -> Report:
    return Report(
        "E-GOAL",
        "the spec has no goal: nothing to derive",
        span,
        help=("minimize KL(p(x,z) || q(x,z))",),
    )
