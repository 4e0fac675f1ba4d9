"""Networks: one declaration and all its uses make a network with its sizes."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

from jointkl.diagnostics import Refused, Span
from jointkl.semantics import constants, errors, law_errors, net_errors
from jointkl.semantics.catalogue import BUILDERS, BuilderRow, OptionValue
from jointkl.semantics.layers import largest, plan, takes_batch_statistics
from jointkl.semantics.model import (
    Constant,
    Distribution,
    Goal,
    Head,
    Hinge,
    Indexed,
    Law,
    Net,
    NetCall,
    Operation,
    ParameterRef,
    VariableRef,
)
from jointkl.semantics.scope import NetUse, Scope
from jointkl.semantics.spaces import DISCRETE, Space, contains
from jointkl.syntax import nodes

MOST_WIDTHS = 1000
"""A network has no more widths than this."""


def networks(scope: Scope, critics: frozenset[str]) -> Mapping[str, Net]:
    """Every declared network, its builder checked and its sizes taken from its uses.

    `critics` are those that a goal names for its density ratio: their inputs follow from the derivation. Where the
    spec has other mistakes, uses may be missing, and sizes are not judged.
    """
    by_net: dict[str, list[NetUse]] = {name: [] for name in scope.nets}
    for use in scope.uses:
        by_net[use.net].append(use)
    judged = not scope.reports
    found: dict[str, Net] = {}
    for name, node in scope.nets.items():
        try:
            built = _built(scope, node)
            found[name] = _sized(scope, node, built, by_net[name], name in critics) if judged else built
        except Refused as refused:
            scope.refuse(refused.report)
    return found


def verify_penalties(scope: Scope, nets: Mapping[str, Net], laws: Mapping[str, Law], goals: Iterable[Goal]) -> None:
    """A penalty takes the gradient of a datum's logit in that datum: with batch statistics there is no such thing."""
    for goal in goals:
        terms = [t for part in goal.terms for t in (part.terms if isinstance(part, Hinge) else (part,))]
        for term in (t for t in terms if t.row.penalty):
            for f in term.right.joint.branches[0].factors:
                for net in (nets[name] for name in _nets_of(laws[f.law]) if name in nets):
                    if takes_batch_statistics(net):
                        scope.refuse(net_errors.batch_in_penalty(term.right.span, net.name, net.built))


def _nets_of(law: Law) -> Iterator[str]:
    pending = [v for _, v in law.body.parameters] if isinstance(law.body, Distribution) else []
    while pending:
        match pending.pop():
            case NetCall(net=net, inputs=parts):
                yield net
                pending += parts
            case Operation(operands=parts):
                pending += parts
            case Indexed(value=inner, indices=indices):
                pending += (inner, *indices)
            case Constant() | ParameterRef() | VariableRef():
                pass


# --- builders


def _built(scope: Scope, node: nodes.Net) -> Net:
    """The network as declared, without its sizes."""
    row = _builder(scope, node)
    given = [a for a in node.builder.arguments if not isinstance(a, nodes.Keyword)]
    if len(given) > MOST_WIDTHS:
        raise Refused(errors.too_large(node.builder.span, "the number of widths", MOST_WIDTHS))
    named = [a for a in node.builder.arguments if isinstance(a, nodes.Keyword)]
    if node.output is not None:
        _verify_stated(node, constants.space(scope, node.output))
    found = Net(node.name.text, row.name, (), (), span=node.name.span, built=node.builder.span)
    if row.takes == "class":
        return replace(found, target=_target(node, given), options=_free_options(scope, named))
    if given and row.takes == "nothing":
        raise Refused(errors.no_sizes(given[0].span, row.name))
    if not given and row.takes == "one width or more":
        raise Refused(net_errors.needs_widths(node.builder.span, row.name))
    widths = tuple(constants.natural(constants.evaluate(scope, a), a.span, least=1) for a in given)
    return replace(found, widths=widths, options=constants.options(scope, row.name, row.options, named))


def _builder(scope: Scope, node: nodes.Net) -> BuilderRow:
    name = node.builder.name
    if name.text in BUILDERS:
        return BUILDERS[name.text]
    raise scope.missing(f"{name.text}(", lambda: errors.unknown(name.span, "builder of nets", name.text, BUILDERS))


CLASS = re.compile(r"([A-Za-z]\w*(?:\.[A-Za-z]\w*)*):([A-Za-z]\w*)", re.ASCII)
"""A module and a class in it: names of Python, none of them with a leading underscore."""


def _target(node: nodes.Net, given: list[nodes.Expr]) -> str:
    """The class of a `python` net, by name. It is not imported here."""
    if not given:
        raise Refused(net_errors.needs_class(node.builder.span))
    if len(given) > 1:
        raise Refused(net_errors.class_alone(given[1].span))
    text = given[0].value if isinstance(given[0], nodes.Text) else given[0].span.text
    if not isinstance(given[0], nodes.Text) or not CLASS.fullmatch(text) or _keywords(text):
        raise Refused(net_errors.bad_class(given[0].span, text))
    return text


def _keywords(text: str) -> bool:
    return any(keyword.iskeyword(part) for part in re.split("[.:]", text))


def _free_options(scope: Scope, named: list[nodes.Keyword]) -> tuple[tuple[str, OptionValue], ...]:
    """What a class of the user's own is made with, by names that only it knows."""
    found: dict[str, tuple[OptionValue, Span]] = {}
    for argument in named:
        name = argument.name.text
        if name in found:
            raise Refused(errors.option_twice(argument.name.span, "python", name, found[name][1]))
        if keyword.iskeyword(name) or not (name.isascii() and name.isidentifier()):
            raise Refused(net_errors.bad_option_name(argument.name.span, name))
        found[name] = (_free_value(scope, argument.value), argument.name.span)
    return tuple((name, value) for name, (value, _) in found.items())


def _free_value(scope: Scope, expr: nodes.Expr) -> OptionValue:
    """A flag, a text, a number or a list of numbers; a whole number is an int."""
    if isinstance(expr, nodes.Name) and expr.text in ("true", "false"):
        return expr.text == "true"
    if isinstance(expr, nodes.Name) and expr.text not in scope.lets:
        raise Refused(net_errors.bad_option_value(expr.span))
    found = constants.evaluate(scope, expr)
    if isinstance(found, str):
        return found
    items = [i for i in (found if isinstance(found, tuple) else (found,)) if isinstance(i, Fraction)]
    if isinstance(found, tuple) and len(items) < len(found):
        raise Refused(net_errors.bad_option_value(expr.span))
    numbers = tuple(int(i) if i.denominator == 1 else float(i) for i in items)
    return numbers if isinstance(found, tuple) else numbers[0]


def _verify_stated(node: nodes.Net, stated: Space) -> None:
    assert node.output is not None
    if stated.kind in DISCRETE:
        help = f"net {node.name.text}: real[{stated.width}] = {node.builder.span.text}"
        raise Refused(law_errors.no_map(node.output.span, node.name.text, stated, None, help))


# --- sizes


def _sized(scope: Scope, node: nodes.Net, net: Net, uses: list[NetUse], is_critic: bool) -> Net:
    if not uses and is_critic:
        return net
    if not uses:
        raise Refused(law_errors.unused_net(node.name.span, node.name.text))
    first = next((use for use in uses if use.dirac), uses[0])
    for use in uses:
        _verify_same_size(use, first, stated=node.output is not None)
    heads, cause = first.heads, first.span
    if node.output is not None:
        stated = constants.space(scope, node.output)
        for use in uses:
            if len(use.heads) != 1 or use.heads[0].space.shape != stated.shape:
                found = f"must give {_shapes(use.heads)}"
                raise Refused(law_errors.two_sizes(use.span, net.name, found, f"states {stated}", node.output.span))
        if not first.dirac:
            heads, cause = (Head(heads[0].name, stated),), node.output.span
    for use in uses:
        _verify_within(node, use, heads, cause)
    made = planned(replace(net, inputs=first.inputs, heads=heads))
    if takes_batch_statistics(made):
        _verify_batches(uses, made)
    return made


def planned(net: Net) -> Net:
    """The network, its layers known to be possible. Raises `Refused`."""
    found = plan(net)
    if largest((*found.layers, *found.head)) > constants.LARGEST:
        what = f"the number of weights in a layer of `{net.name}`"
        raise Refused(errors.too_large(net.built, what, constants.LARGEST))
    return net


def _verify_batches(uses: list[NetUse], net: Net) -> None:
    """Statistics of a batch are taken of what has a value for each datum."""
    image = plan(net).image
    for use in uses:
        if not (any(use.local) if image is None else use.local[image]):
            raise Refused(net_errors.batch_of_one(use.span, net.name, net.built))


def _verify_within(node: nodes.Net, use: NetUse, heads: tuple[Head, ...], cause: Span) -> None:
    """What the network gives lies in the space that is needed here."""
    need, given = use.heads[0], heads[0].space
    if len(heads) == 1 and not contains(need.space, given.kind):
        stated = node.output is not None and cause == node.output.span
        help = f"net {use.net}: {need.space} = {node.builder.span.text}" if stated else "use another net here"
        raise Refused(law_errors.net_space(use.span, use.net, need.name, need.space, given, cause, help))


def _verify_same_size(use: NetUse, first: NetUse, *, stated: bool) -> None:
    if _widths_of(use.inputs) != _widths_of(first.inputs):
        found, other = (f"applied to {', '.join(map(str, u.inputs))}" for u in (use, first))
        raise Refused(law_errors.two_sizes(use.span, use.net, found, other, first.span))
    alone = len(use.heads) == len(first.heads) == 1
    if alone and (stated or first.dirac):
        same = use.heads[0].space.shape == first.heads[0].space.shape
    else:
        same = use.heads[0].space == first.heads[0].space if alone else use.heads == first.heads
    if not same:
        found, other = (f"gives {_shapes(u.heads)}" for u in (use, first))
        raise Refused(law_errors.two_sizes(use.span, use.net, found, other, first.span))


def _widths_of(spaces: tuple[Space, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple((s.width,) if s.kind == "finite" else s.shape for s in spaces)


def _shapes(heads: tuple[Head, ...]) -> str:
    return ", ".join(f"{h.space}" if h.name == "value" else f"{h.name} {h.space}" for h in heads)
