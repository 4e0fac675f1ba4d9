"""A layered layout of small directed graphs, from top to bottom (Sugiyama, Tagawa and Toda 1981).

Layers are given. Long edges get a bend in every layer between, neighbours stand in the order of their neighbours, and
then where those are, as far as there is room. Everything is plain arithmetic in a fixed order: the same graph has the
same picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

SWEEPS = 12
"""How often the layers are gone through, down and up, for their order and again for their places."""

Names = Sequence[str]


@dataclass(frozen=True, slots=True)
class Box:
    """What is to be placed: its size and its layer."""

    width: float
    height: float
    layer: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Centres by node, and for each edge, in the order given, the points it goes through: from the lower edge of its
    first node by its bends, which span a layer each, to the upper edge of its last."""

    places: Mapping[str, tuple[float, float]]
    edges: tuple[tuple[tuple[float, float], ...], ...]
    width: float
    height: float


def layout(boxes: Mapping[str, Box], edges: Sequence[tuple[str, str]], gap: float, between: float) -> Layout:
    """Places for all boxes: `gap` apart in a layer, layers `between` apart. Every edge goes to a lower layer."""
    nodes, links, chains = _with_bends(boxes, edges)
    layers = _layers(nodes)
    _order(layers, links)
    across = _across(layers, nodes, links, gap)
    heights = [max(nodes[n].height for n in layer) for layer in layers]
    tops = [sum(heights[:i]) + between * i for i in range(len(layers))]
    left = min(across[n] - nodes[n].width / 2 for n in nodes)
    places = {n: (across[n] - left, tops[i] + heights[i] / 2) for i, layer in enumerate(layers) for n in layer}
    width = max(places[n][0] + nodes[n].width / 2 for n in nodes)
    found = tuple(_points(chain, places, nodes, tops, heights, layers) for chain in chains)
    return Layout({n: places[n] for n in boxes}, found, width, tops[-1] + heights[-1])


def _with_bends(
    boxes: Mapping[str, Box], edges: Sequence[tuple[str, str]]
) -> tuple[dict[str, Box], list[tuple[str, str]], list[list[str]]]:
    """The nodes with those that long edges bend at, the links between neighbouring layers, and each edge's nodes."""
    nodes, links, chains = dict(boxes), list[tuple[str, str]](), list[list[str]]()
    for k, (a, b) in enumerate(edges):
        chain = [a]
        for layer in range(boxes[a].layer + 1, boxes[b].layer):
            chain.append(f"\0{k}.{layer}")
            nodes[chain[-1]] = Box(0, 0, layer)
        chain.append(b)
        links += pairwise(chain)
        chains.append(chain)
    return nodes, links, chains


def _layers(nodes: Mapping[str, Box]) -> list[list[str]]:
    """The nodes of each layer, layers without any left out."""
    used = sorted({box.layer for box in nodes.values()})
    return [[n for n, box in nodes.items() if box.layer == layer] for layer in used]


def _order(layers: list[list[str]], links: Sequence[tuple[str, str]]) -> None:
    """Put each layer in the order of the mean place of its neighbours; keep the order with the fewest crossings."""
    best, fewest = [list(layer) for layer in layers], crossings(layers, links)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for i in range(1, len(layers)) if down else range(len(layers) - 2, -1, -1):
            beside = {n: k for k, n in enumerate(layers[i - 1 if down else i + 1])}
            mean: dict[str, float] = {}
            for k, n in enumerate(layers[i]):
                near = [
                    beside[o]
                    for a, b in links
                    for o, own in (((a, b) if down else (b, a)),)
                    if own == n and o in beside
                ]
                mean[n] = fmean(near) if near else k
            layers[i].sort(key=mean.__getitem__)
        found = crossings(layers, links)
        if found < fewest:
            best, fewest = [list(layer) for layer in layers], found
    layers[:] = best


def crossings(layers: Sequence[Names], links: Sequence[tuple[str, str]]) -> int:
    """How many pairs of links cross."""
    place = {n: k for layer in layers for k, n in enumerate(layer)}
    level = {n: i for i, layer in enumerate(layers) for n in layer}
    return sum(
        level[a] == level[c] and (place[a] - place[c]) * (place[b] - place[d]) < 0
        for i, (a, b) in enumerate(links)
        for c, d in links[:i]
    )


def _across(
    layers: Sequence[Names], nodes: Mapping[str, Box], links: Sequence[tuple[str, str]], gap: float
) -> dict[str, float]:
    """Each node's place from left to right: at the mean of its neighbours, as far as its layer has room."""
    near: dict[str, list[str]] = {n: [] for n in nodes}
    for a, b in links:
        near[a].append(b)
        near[b].append(a)
    place: dict[str, float] = {}
    for layer in layers:
        place |= _apart(layer, nodes, {n: 0.0 for n in layer}, gap)
    for sweep in range(SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            place |= _apart(
                layer, nodes, {n: fmean(place[o] for o in near[n]) if near[n] else place[n] for n in layer}, gap
            )
    return place


def _apart(layer: Names, nodes: Mapping[str, Box], wanted: Mapping[str, float], gap: float) -> dict[str, float]:
    """The places next to the wanted ones, in the least squares, at which the boxes of a layer are `gap` apart.

    With the widths and gaps before it taken off each wanted place this is isotonic regression, by pooling (Ayer et al.
    1955).
    """
    offsets, total = list[float](), 0.0
    for i, n in enumerate(layer):
        total += (nodes[layer[i - 1]].width + nodes[n].width) / 2 + gap if i else 0.0
        offsets.append(total)
    pools: list[list[float]] = []
    for n, offset in zip(layer, offsets, strict=True):
        pools.append([wanted[n] - offset])
        while len(pools) > 1 and fmean(pools[-2]) > fmean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    flat = [fmean(pool) for pool in pools for _ in pool]
    return {n: at + offset for n, at, offset in zip(layer, flat, offsets, strict=True)}


def _points(
    chain: Names,
    places: Mapping[str, tuple[float, float]],
    nodes: Mapping[str, Box],
    tops: Sequence[float],
    heights: Sequence[float],
    layers: Sequence[Names],
) -> tuple[tuple[float, float], ...]:
    level = {n: i for i, layer in enumerate(layers) for n in layer}
    first, *bends, last = chain
    points = [(places[first][0], places[first][1] + nodes[first].height / 2)]
    for n in bends:
        top = tops[level[n]]
        points += [(places[n][0], top), (places[n][0], top + heights[level[n]])]
    return (*points, (places[last][0], places[last][1] - nodes[last].height / 2))
