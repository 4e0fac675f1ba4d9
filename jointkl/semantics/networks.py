"""Networks: one declaration and all its uses make a network with its sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from jointkl.semantics import constants, errors
from jointkl.semantics.catalogue import BUILDERS, PLANNED_BUILDERS, BuilderRow, OptionValue
from jointkl.semantics.model import Head, Net
from jointkl.semantics.scope import Refused, Scope
from jointkl.semantics.spaces import Space
from jointkl.semantics.values import NetUse
from jointkl.syntax import nodes


def networks(scope: Scope, uses: Iterable[NetUse], critics: frozenset[str]) -> Mapping[str, Net]:
    """Every declared network, its builder checked and its sizes taken from its uses.

    `critics` are those that a goal names for its density ratio: their inputs follow from the derivation.
    """
    by_net: dict[str, list[NetUse]] = {name: [] for name in scope.nets}
    for use in uses:
        by_net[use.net].append(use)
    found: dict[str, Net] = {}
    for name, node in scope.nets.items():
        try:
            found[name] = _network(scope, node, by_net[name], name in critics)
        except Refused as refused:
            scope.refuse(refused.report)
    return found


def _network(scope: Scope, node: nodes.Net, uses: list[NetUse], is_critic: bool) -> Net:
    row = _builder(node)
    widths = _widths(scope, node, row)
    options = _options(scope, node, row)
    if not uses and is_critic:
        return Net(node.name.text, row.name, widths, options, span=node.span)
    if not uses:
        raise Refused(errors.unused_net(node.name.span, node.name.text))
    first = next((use for use in uses if use.dirac), uses[0])
    for use in uses:
        _verify_same_size(use, first)
    heads = first.heads
    if node.output is not None:
        stated = constants.space(scope, node.output)
        if len(heads) != 1 or heads[0].space.shape != stated.shape:
            raise Refused(
                errors.two_sizes(
                    first.span, node.name.text, f"gives {_shapes(heads)}", f"states {stated}", node.output.span
                )
            )
        if not first.dirac:
            heads = (Head(heads[0].name, stated),)
    return Net(node.name.text, row.name, widths, options, first.inputs, heads, span=node.span)


def _builder(node: nodes.Net) -> BuilderRow:
    name = node.builder.name
    if name.text in BUILDERS:
        return BUILDERS[name.text]
    if name.text in PLANNED_BUILDERS:
        raise Refused(errors.not_yet(name.span, f"networks built by `{name.text}`"))
    raise Refused(errors.unknown(name.span, "builder of networks", name.text, BUILDERS))


def _widths(scope: Scope, node: nodes.Net, row: BuilderRow) -> tuple[int, ...]:
    given = [a for a in node.builder.arguments if not isinstance(a, nodes.Keyword)]
    if given and not row.widths:
        raise Refused(errors.argument_count(given[0].span, row.name, "no sizes", len(given)))
    return tuple(constants.natural(constants.evaluate(scope, a), a.span, least=1) for a in given)


def _options(scope: Scope, node: nodes.Net, row: BuilderRow) -> tuple[tuple[str, OptionValue], ...]:
    found: list[tuple[str, OptionValue]] = []
    for argument in node.builder.arguments:
        if isinstance(argument, nodes.Keyword):
            option = next((o for o in row.options if o.name == argument.name.text), None)
            if option is None:
                known = [o.name for o in row.options]
                raise Refused(errors.option_unknown(argument.name.span, row.name, argument.name.text, known))
            found.append((option.name, constants.option(scope, option, argument.value)))
    return tuple(found)


def _verify_same_size(use: NetUse, first: NetUse) -> None:
    if _widths_of(use.inputs) != _widths_of(first.inputs):
        raise Refused(
            errors.two_sizes(
                use.span,
                use.net,
                f"applied to {', '.join(map(str, use.inputs))}",
                f"applied to {', '.join(map(str, first.inputs))}",
                first.span,
            )
        )
    same = len(use.heads) == len(first.heads) and all(
        a.space.shape == b.space.shape and (len(use.heads) == 1 or a.space == b.space)
        for a, b in zip(use.heads, first.heads, strict=True)
    )
    if not same:
        raise Refused(
            errors.two_sizes(
                use.span, use.net, f"gives {_shapes(use.heads)}", f"gives {_shapes(first.heads)}", first.span
            )
        )
    if len(use.heads) == 1 and not use.dirac and not first.dirac and use.heads[0].space != first.heads[0].space:
        raise Refused(
            errors.two_sizes(
                use.span, use.net, f"gives {_shapes(use.heads)}", f"gives {_shapes(first.heads)}", first.span
            )
        )


def _widths_of(spaces: tuple[Space, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple((s.width,) if s.kind == "finite" else s.shape for s in spaces)


def _shapes(heads: tuple[Head, ...]) -> str:
    return ", ".join(f"{h.name} {h.space}" for h in heads)
