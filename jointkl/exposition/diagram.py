"""Factor graphs to be shown: for each joint its products, with what a reader wants marked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from jointkl.diagnostics import DataError
from jointkl.exposition.graph import Graph, Node, factor_graph, joints
from jointkl.semantics.model import Branch, Dirac, Distribution, Evidence, Free, Joint, Model, Side


@dataclass(frozen=True, slots=True)
class Variable:
    """`evidence`: data give it; `hidden`: it is integrated out; `shared`: one for all data, outside their plate."""

    name: str
    evidence: bool = False
    hidden: bool = False
    shared: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        flags = {"evidence": self.evidence, "hidden": self.hidden, "global": self.shared}
        return tuple(name for name, set_ in flags.items() if set_)


@dataclass(frozen=True, slots=True)
class Factor:
    """A law applied; `about` is its family, or where its values are from, and who trains it."""

    text: str
    givens: tuple[str, ...]
    outputs: tuple[str, ...]
    about: str
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Product:
    """`title` is the label's value and the weight of a branch, or nothing."""

    title: str
    variables: tuple[Variable, ...]
    factors: tuple[Factor, ...]


@dataclass(frozen=True, slots=True)
class Diagram:
    title: str
    products: tuple[Product, ...]


def diagrams(model: Model, feeds: Mapping[str, frozenset[str]], text: str | None = None) -> tuple[Diagram, ...]:
    """Of every joint, in order, or of the one that `text` names. `feeds`: the nets, params and Free laws of each law.

    Raises `DataError` where no joint is called so.
    """
    found = joints(model)
    if text is not None:
        known = {joint.text: joint for joint in found}
        names = [name for name in known if _bare(name) == _bare(text)]
        if not names:
            raise DataError(f"there is no joint {text}", f"this spec has {', '.join(f'`{name}`' for name in known)}")
        found = (known[names[0]],)
    return tuple(
        Diagram(joint.text, tuple(_product(model, feeds, joint, branch) for branch in joint.joint.branches))
        for joint in found
    )


def _bare(text: str) -> str:
    return re.sub(r"[\s*]", "", text)


def _product(model: Model, feeds: Mapping[str, frozenset[str]], joint: Side, branch: Branch) -> Product:
    graph = factor_graph(model, branch)
    nodes: list[Node] = list(graph.nodes)
    laws = {node: str(graph.nodes[node]["law"]) for node in nodes if node[0] == "factor"}
    given_by = {
        v for node, law in laws.items() if isinstance(model.laws[law].body, Evidence) for v in _after(graph, node)
    }
    variables = tuple(
        Variable(name, name in given_by, name not in joint.head, model.variable(name).is_global)
        for kind, name in nodes
        if kind == "variable"
    )
    shared = {v.name for v in variables if v.shared}
    factors = tuple(
        Factor(
            ("old " if graph.nodes[node]["old"] else "") + str(graph.nodes[node]["text"]),
            tuple(name for _, name in graph.predecessors(node)),
            _after(graph, node),
            _about(model, law, feeds[law], "old " if graph.nodes[node]["old"] else ""),
            shared.issuperset(_after(graph, node)),
        )
        for node, law in laws.items()
    )
    title = "" if branch.label is None else f"{branch.label}={branch.value}, weight {branch.weight}"
    return Product(title, variables, factors)


def _after(graph: Graph, node: Node) -> tuple[str, ...]:
    return tuple(name for _, name in graph.successors(node))


def _about(model: Model, law: str, feeds: frozenset[str], old: str) -> str:
    match model.laws[law].body:
        case Distribution(family=family):
            kind = family
        case Dirac():
            kind = "Delta"
        case Free():
            return "Free"
        case Evidence(source=source):
            return "evidence" if source == "evidence" else f"evidence, {source}"
        case Joint():
            kind = "joint"
    trained = ", ".join(name for name in model.declared if name in feeds)
    return f"{kind} of {old}{trained}" if trained else kind
