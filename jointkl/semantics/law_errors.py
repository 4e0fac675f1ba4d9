"""Mistakes in a law's right side: families, parameters, values, networks. One named constructor each, span first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jointkl.diagnostics import Report, Span
from jointkl.semantics.spaces import Space
from jointkl.semantics.wording import dims, line, listed, meant, words

# --- families


def one_output(span: Span, what: str, outputs: Sequence[str], written: str) -> Report:
    return Report(
        "E-LAW",
        f"{what} is the law of one variable, not of {listed(outputs)}",
        span,
        "a second variable",
        help=(f"write one law for each and multiply them: {written}",),
    )


def without_brackets(span: Span, what: str, name: str, example: str) -> Report:
    return Report("E-LAW", f"the {what} `{name}` needs its brackets", span, help=(example,))


def bar_in_family(span: Span, name: str, written: str) -> Report:
    return Report(
        "E-LAW",
        f"{name} takes no bar: what a law is given stands on its left side",
        span,
        "after the bar",
        help=(f"{written} = {name}(..)",),
    )


def global_given_local(span: Span, name: str, given: str, cause: Span) -> Report:
    return Report(
        "E-GLOBAL",
        f"the global `{name}` cannot be given `{given}`, which each datum has its own of",
        span,
        "one for each datum",
        ((cause, f"`{name}` is one value for the whole data set"),),
        help=(f"leave `{given}` out, or declare `{name}` without `global`",),
    )


def global_evidence(span: Span, name: str, cause: Span) -> Report:
    return Report(
        "E-GLOBAL",
        f"data give a value for each datum, and the global `{name}` has one for all",
        span,
        causes=((cause, f"`{name}` is one value for the whole data set"),),
        help=(f"declare `{name}` without `global`",),
    )


def global_label(span: Span, name: str, cause: Span) -> Report:
    return Report(
        "E-GLOBAL",
        f"a mixture has a label for each datum, and the global `{name}` is one for all",
        span,
        causes=((cause, f"`{name}` is one value for the whole data set"),),
        help=(f"declare `{name}` without `global`",),
    )


def free_needs_finite(span: Span, name: str, space: Space, cause: Span) -> Report:
    return Report(
        "E-FREE",
        f"`Free` is a law over a finite space, and `{name}` is {space}",
        span,
        causes=((cause, f"`{name}` is {space}"),),
        help=(f"give it a family, as in Normal(E(..)), or declare var {name}: {{0..9}}",),
    )


def not_covered(
    span: Span, family: str, event: bool, support: Space, name: str, space: Space, cause: Span, fits: Iterable[str]
) -> Report:
    """`support` is the space that the family covers; `event`: it is a family of vectors."""
    covered = f"{support.kind} {'vectors' if event else 'values'}"
    return Report(
        "E-SUPPORT",
        f"{family} is over {covered}, and `{name}` is {space}",
        span,
        covered,
        ((cause, f"`{name}` is {space}"),),
        help=(f"families over {space}: {', '.join(fits)}", f"or declare var {name}: {support}"),
    )


def parameter_missing(span: Span, family: str, name: str, names: Sequence[str]) -> Report:
    return Report(
        "E-PARAMETER",
        f"{family} needs its parameter `{name}`",
        span,
        f"no `{name}`",
        help=(f"{family}({', '.join(names)}), in this order or by name",),
    )


def parameter_unknown(span: Span, family: str, name: str, names: Sequence[str]) -> Report:
    help = meant(name, names) or (f"its parameters are {words(names)}",)
    return Report("E-PARAMETER", f"{family} has no parameter `{name}`", span, "unknown", help=help)


def parameter_twice(span: Span, family: str, name: str) -> Report:
    return Report(
        "E-PARAMETER", f"the parameter `{name}` of {family} is given twice", span, "again here", help=("remove one",)
    )


def parameter_alternatives(span: Span, family: str, one: str, other: str) -> Report:
    return Report(
        "E-PARAMETER",
        f"{family} takes `{one}` or `{other}`, not both",
        span,
        f"`{other}` as well",
        help=("remove one",),
    )


def too_many_parameters(span: Span, family: str, names: Sequence[str]) -> Report:
    return Report(
        "E-PARAMETER",
        f"{family} has {len(names)} parameter{'s'[: len(names) != 1]}: {', '.join(names)}",
        span,
        "one too many",
        help=("remove it",),
    )


def parameter_shape(
    span: Span, name: str, found: tuple[int, ...], need: Space, declared: tuple[str, Span] | None, fillable: bool
) -> Report:
    """`declared` is the param that stands there, with its place; `fillable`: a number would do."""
    shape = list(need.shape)
    help = f"give a number, which fills the shape, or a value of shape {shape}" if fillable else f"give shape {shape}"
    return Report(
        "E-SHAPE",
        f"`{name}` must have shape {shape}, not {list(found)}",
        span,
        f"shape {list(found)}",
        ((declared[1], "declared here"),) if declared else (),
        help=(f"param {declared[0]}: {need}" if declared else help,),
    )


def parameter_value(span: Span, what: str, need: str, found: float) -> Report:
    return Report(
        "E-PARAMETER",
        f"{what} must be {need}",
        span,
        f"this has {found:g}" if "diagonal" in need else f"this is {found:g}",
        help=(f"write a value that is {need}",),
    )


def parameter_space(span: Span, what: str, need: Space, found: Space, cause: Span, help: str) -> Report:
    """What stands for a parameter or a value may leave its space."""
    wanted, given = (str(s) if s.kind == "finite" else s.kind for s in (need, found))
    return Report(
        "E-PARAMETER",
        f"{what} must be {wanted}, and `{line(span.text, 30)}` is {found}",
        span,
        f"{given} values",
        ((cause, "declared here"),),
        help=(help,),
    )


def probabilities_sum(span: Span, total: float) -> Report:
    return Report(
        "E-PARAMETER",
        f"the probabilities sum to {total:g}, not to 1",
        span,
        f"sum {total:g}",
        help=("give one for each value, as in [0.2, 0.8]; Categorical() is uniform",),
    )


def needs_keyword(span: Span, family: str, text: str, ways: tuple[str, str]) -> Report:
    """`ways`: the names of the two that it may be."""
    return Report(
        "E-PARAMETER",
        f"is this {family}'s probability or its logit?",
        span,
        "an expression that contains a net",
        help=(f"{family}({ways[0]}={line(text)})", f"or {family}({ways[1]}={line(text)})"),
    )


def no_heads(span: Span, family: str, names: Sequence[str]) -> Report:
    return Report(
        "E-PARAMETER",
        f"a net alone cannot supply every parameter of {family}",
        span,
        help=(f"name them: {family}({', '.join(f'{n}=..' for n in names)})",),
    )


def one_for_all(span: Span, family: str, name: str, count: bool) -> Report:
    """`count`: it is written as a whole number."""
    written = "a whole number or a constant" if count else "a number, a constant or a param"
    return Report(
        "E-PARAMETER",
        f"`{name}` of {family} is one number for all data",
        span,
        f"not {written}",
        help=(f"write {written}",),
    )


def empty_interval(span: Span, low: float, high: float) -> Report:
    return Report(
        "E-PARAMETER",
        "Uniform(low, high) needs low below high",
        span,
        f"{high:g} is not above {low:g}",
        help=(f"Uniform({high:g}, {low:g})" if high < low else "write a larger `high`",),
    )


def beyond_space(span: Span, name: str, space: Space, cause: Span) -> Report:
    """A Uniform over a bounded space: its bounds must be known to lie there."""
    return Report(
        "E-SUPPORT",
        f"Uniform draws `{name}` outside its space {space}",
        span,
        "not a constant within the space",
        ((cause, f"`{name}` is {space}"),),
        help=(f"Uniform(0, 1), or declare var {name}: real{dims(space)}",),
    )


# --- values and networks


def not_given(span: Span, name: str, givens: Sequence[str], written: str) -> Report:
    among = f"the law is given {listed(givens)}" if givens else "the law is given nothing"
    return Report("E-GIVEN", f"`{name}` is used by a law that is not given it", span, among, help=(f"{written} = ...",))


def its_own_output(span: Span, name: str, written: str) -> Report:
    return Report(
        "E-GIVEN",
        f"`{name}` is the law's own output: it has no value yet",
        span,
        "used before it is drawn",
        help=(f"let it depend on a copy: {written} = ...",),
    )


def law_in_value(span: Span, what: str, text: str) -> Report:
    return Report(
        "E-VALUE",
        f"the {what} `{line(text, 30)}` stands where a value is needed",
        span,
        f"a {what}",
        help=("write the variable that it generates, and multiply by the law where the joint is made",),
    )


def argument_count(span: Span, name: str, need: str, found: int, example: str) -> Report:
    return Report("E-VALUE", f"`{name}` takes {need}", span, f"it has {found}", help=(example,))


def no_keywords(span: Span, owner: str) -> Report:
    return Report(
        "E-VALUE", f"`{owner}` takes no names, only values", span, help=("leave out the name and the sign =",)
    )


def net_without_inputs(span: Span, net: str, inputs: Sequence[str]) -> Report:
    return Report(
        "E-VALUE",
        f"the net `{net}` is applied to nothing",
        span,
        "no inputs",
        help=(f"{net}({', '.join(inputs) or '..'})",),
    )


def bad_operands(span: Span, why: str, help: str) -> Report:
    return Report("E-SHAPE", why, span, help=(help,))


def needs_output(span: Span, net: str, cause: Span, builder: str) -> Report:
    return Report(
        "E-NET",
        f"the size of `{net}`'s output does not follow from here",
        span,
        "used inside an expression",
        ((cause, "declared without one"),),
        help=(f"state it: net {net}: real[128] = {line(builder)}",),
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


def no_map(span: Span, net: str, space: Space, cause: Span | None, help: str) -> Report:
    return Report(
        "E-NET",
        f"the net `{net}` cannot give {space}: its output moves continuously",
        span,
        f"{space.kind} values are needed" if cause else "",
        ((cause, f"{space}"),) if cause else (),
        help=(help,),
    )


def net_space(span: Span, net: str, name: str, need: Space, found: Space, cause: Span, help: str) -> Report:
    """`name` is the parameter that the net stands for, or `value`."""
    what = f"`{name}` must be {need.kind}" if name != "value" else f"{need.kind} values are needed"
    return Report(
        "E-NET",
        f"{what}, and the net `{net}` gives {found.kind} ones",
        span,
        f"{need.kind} needed",
        ((cause, f"gives {found}"),),
        help=(help,),
    )


def unused_net(span: Span, net: str) -> Report:
    return Report(
        "E-NET",
        f"the net `{net}` is applied nowhere",
        span,
        "never used",
        help=(f"use it in a law, as in Delta({net}(z)), or remove it",),
    )


def density_family(span: Span, names: Sequence[str]) -> Report:
    first, *others = names
    example = f"density={first}(1), or {', '.join(others)} with its scale"
    help = meant(line(span.text, 30), [f"{name}(1)" for name in names]) or (example,)
    return Report("E-OPTION", "`density` takes a family around the Dirac's value", span, "not one", help=help)


def density_arguments(span: Span, family: str, location: str, other: str) -> Report:
    return Report(
        "E-OPTION",
        f"`density={family}` takes its {other} alone: its {location} is the Dirac's value",
        span,
        "",
        help=(f"density={family}(1)",),
    )
