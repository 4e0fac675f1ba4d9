"""The factor graph of a model, as networkx has graphs: a view, imported by what asks for one.

Bipartite: a node ("variable", name) for each variable of a joint, a node ("factor", place) for each of its factors, an
edge from each given into the factor and from the factor to each output.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import networkx as nx

from jointkl.semantics.model import Branch, Hinge, Joint, Model, Side, law_text

Node = tuple[str, str]
if TYPE_CHECKING:
    Graph = nx.DiGraph[Node]
else:
    Graph = nx.DiGraph


def factor_graph(model: Model, branch: Branch) -> Graph:
    """The graph of one product: a joint without branches has one, a mixture one for each branch."""
    graph: Graph = nx.DiGraph()
    for place, factor in enumerate(branch.factors):
        law = model.laws[factor.law]
        node = ("factor", str(place))
        text = law_text(law.label, factor.outputs, tuple(map(str, factor.arguments)))
        graph.add_node(node, text=text, law=factor.law, old=factor.old)
        for v in factor.givens:
            graph.add_edge(("variable", v), node)
        for v in factor.outputs:
            graph.add_edge(node, ("variable", v))
    return graph


def joints(model: Model) -> tuple[Side, ...]:
    """The joints of a model: those with a name, then the products of several factors that stand in a goal alone."""
    found = {
        key: Side(key, (*law.outputs, *law.givens), law.body, law.span)
        for key, law in model.laws.items()
        if isinstance(law.body, Joint)
    }
    for goal in model.goals:
        for term in goal.terms:
            for divergence in term.terms if isinstance(term, Hinge) else (term,):
                for side in (divergence.left, divergence.right):
                    if len(side.joint.branches[0].factors) > 1:
                        found.setdefault(side.text, side)
    return tuple(found.values())


def variables(graph: Graph) -> tuple[str, ...]:
    return tuple(name for kind, name in graph.nodes if kind == "variable")


def ancestors(graph: Graph, names: Iterable[str]) -> frozenset[str]:
    """The variables that `names` descend from, themselves left out."""
    start: list[Node] = [("variable", v) for v in names]
    found: set[Node] = set()
    pending = list(start)
    while pending:
        above = [n for n in graph.predecessors(pending.pop()) if n not in found]
        found.update(above)
        pending += above
    return frozenset(name for kind, name in found if kind == "variable") - frozenset(name for _, name in start)


def d_separated(graph: Graph, left: Iterable[str], right: Iterable[str], given: Iterable[str]) -> bool:
    """Are `left` and `right` independent given `given`, whatever the laws (Pearl 1988)?"""
    sets = [{("variable", v) for v in names} for names in (left, right, given)]
    return nx.is_d_separator(graph, *sets)
