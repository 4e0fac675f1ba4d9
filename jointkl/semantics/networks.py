"""Networks: one declaration and all its uses make a network with its sizes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from jointkl.diagnostics import Span
from jointkl.semantics import constants, errors, law_errors
from jointkl.semantics.catalogue import BUILDERS, PLANNED_BUILDERS, BuilderRow, OptionValue
from jointkl.semantics.model import Head, Net
from jointkl.semantics.scope import NetUse, Refused, Scope
from jointkl.semantics.spaces import DISCRETE, Space, contains
from jointkl.syntax import nodes


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


# --- builders


def _built(scope: Scope, node: nodes.Net) -> Net:
    """The network as declared, without its sizes."""
    row = _builder(scope, node)
    given = [a for a in node.builder.arguments if not isinstance(a, nodes.Keyword)]
    if given and not row.widths:
        raise Refused(errors.no_sizes(given[0].span, row.name))
    widths = tuple(constants.natural(constants.evaluate(scope, a), a.span, least=1) for a in given)
    named = [a for a in node.builder.arguments if isinstance(a, nodes.Keyword)]
    options: tuple[tuple[str, OptionValue], ...] = constants.options(scope, row.name, row.options, named)
    if node.output is not None:
        _verify_stated(node, constants.space(scope, node.output))
    return Net(node.name.text, row.name, widths, options, span=node.name.span)


def _builder(scope: Scope, node: nodes.Net) -> BuilderRow:
    name = node.builder.name
    if name.text in BUILDERS:
        return BUILDERS[name.text]
    if name.text in PLANNED_BUILDERS:
        raise Refused(
            errors.not_built(name.span, "builder of nets", name.text, BUILDERS, "mlp(256), which flattens images")
        )
    raise scope.missing(f"{name.text}(", lambda: errors.unknown(name.span, "builder of nets", name.text, BUILDERS))


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
    made = Net(net.name, net.builder, net.widths, net.options, first.inputs, heads, span=net.span)
    _verify_layers(node, made)
    return made


def _verify_within(node: nodes.Net, use: NetUse, heads: tuple[Head, ...], cause: Span) -> None:
    """What the network gives lies in the space that is needed here."""
    need, given = use.heads[0], heads[0].space
    if len(heads) == 1 and not contains(need.space, given.kind):
        stated = node.output is not None and cause == node.output.span
        help = f"net {use.net}: {need.space} = {node.builder.span.text}" if stated else "use another net here"
        raise Refused(law_errors.net_space(use.span, use.net, need.name, need.space, given, cause, help))


def _verify_layers(node: nodes.Net, net: Net) -> None:
    sizes = (sum(s.width for s in net.inputs), *net.widths, net.outputs)
    if any(a * b > constants.LARGEST for a, b in pairwise(sizes)):
        raise Refused(
            errors.too_large(node.builder.span, f"the number of weights in a layer of `{net.name}`", constants.LARGEST)
        )


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
