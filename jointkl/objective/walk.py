"""Ways through a loss: what a node refers to, and the node with its references renumbered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from jointkl.objective.ir import (
    KL,
    Apply,
    Argument,
    Bound,
    Concat,
    Constant,
    Density,
    Detach,
    Distance,
    Drawn,
    Enumerate,
    Filled,
    Given,
    GradientNorm,
    Id,
    Index,
    Leaf,
    LogMixture,
    LogProb,
    LogSumExp,
    Loss,
    MomentKL,
    Net,
    Node,
    Noise,
    Parameter,
    Part,
    Pick,
    Played,
    Responsibility,
    Root,
    Sample,
    Score,
    ScoreFunction,
    Shifted,
    Softmaxed,
    Weighted,
)


def operands(node: Node) -> tuple[Id, ...]:
    """The nodes that a node refers to."""
    match node:
        case Given() | Noise() | Argument() | Parameter() | Constant() | Enumerate():
            return ()
        case Root(density=density) | Sample(density=density):
            return tuple(i for _, i in density.parameters)
        case Net(inputs=ids) | Concat(nodes=ids) | Apply(operands=ids):
            return ids
        case Score(node=i) | Pick(node=i) | Detach(node=i) | Played(node=i) | Part(node=i) | Drawn(node=i):
            return (i,)
        case MomentKL(node=i) | Leaf(node=i) | Filled(node=i):
            return (i,)
        case Responsibility(scores=terms) | Bound(terms=terms) | LogMixture(branches=terms):
            return tuple(i for _, i in terms)
        case LogSumExp(terms=ids):
            return ids
        case ScoreFunction(terms=terms, log_probs=log_probs, over_n=over_n, once=once):
            return (*(i for _, i in (*terms, *over_n)), *log_probs, *once)
        case Weighted(node=i, probabilities=ids):
            return (i, *ids)
        case Softmaxed(node=i, logit=logit):
            return (i, logit)
        case GradientNorm(score=i, leaves=leaves):
            return (i, *(j for j, _ in leaves))
        case Index(node=i, indices=indices):
            return (i, *indices)
        case LogProb(density=density, value=value):
            return (*(i for _, i in density.parameters), *(() if value is None else (value,)))
        case KL(left=left, right=right):
            return tuple(i for d in (left, right) for _, i in d.parameters)
        case Distance(left=a, right=b) | Shifted(node=a, given=b):
            return (a, b)


def mapped(node: Node, f: Callable[[Id], Id]) -> Node:
    """The node with every reference renumbered by `f`."""

    def density(d: Density) -> Density:
        return replace(d, parameters=tuple((n, f(i)) for n, i in d.parameters))

    def weighted(terms: tuple[tuple[Fraction, Id], ...]) -> tuple[tuple[Fraction, Id], ...]:
        return tuple((c, f(i)) for c, i in terms)

    match node:
        case Given() | Noise() | Argument() | Parameter() | Constant() | Enumerate():
            return node
        case Root() | Sample():
            return replace(node, density=density(node.density))
        case Net():
            return replace(node, inputs=tuple(map(f, node.inputs)))
        case Concat():
            return Concat(tuple(map(f, node.nodes)))
        case Apply():
            return replace(node, operands=tuple(map(f, node.operands)))
        case Pick() | Detach() | Played() | Part() | Drawn() | Score() | MomentKL() | Leaf() | Filled():
            return replace(node, node=f(node.node))
        case Index():
            return Index(f(node.node), tuple(map(f, node.indices)))
        case LogProb():
            return replace(node, density=density(node.density), value=None if node.value is None else f(node.value))
        case KL():
            return KL(density(node.left), density(node.right), node.cross)
        case Shifted():
            return replace(node, node=f(node.node), given=f(node.given))
        case Distance():
            return replace(node, left=f(node.left), right=f(node.right))
        case Responsibility():
            return replace(node, scores=weighted(node.scores))
        case LogMixture():
            return LogMixture(weighted(node.branches))
        case LogSumExp():
            return replace(node, terms=tuple(map(f, node.terms)))
        case Bound():
            return replace(node, terms=weighted(node.terms))
        case ScoreFunction():
            logs, once = (tuple(map(f, ids)) for ids in (node.log_probs, node.once))
            return ScoreFunction(weighted(node.terms), logs, weighted(node.over_n), once, node.sources)
        case Weighted():
            return replace(node, node=f(node.node), probabilities=tuple(map(f, node.probabilities)))
        case Softmaxed():
            return replace(node, node=f(node.node), logit=f(node.logit))
        case GradientNorm():
            return GradientNorm(f(node.score), tuple((f(i), n) for i, n in node.leaves))


def upstream(nodes: Sequence[Node], i: Id) -> set[Id]:
    """The nodes that a node is made of, itself left out."""
    seen: set[Id] = set()
    pending = list(operands(nodes[i]))
    while pending:
        j = pending.pop()
        if j not in seen:
            seen.add(j)
            pending += operands(nodes[j])
    return seen


def needed(loss: Loss, player: str | None = None) -> list[Id]:
    """The nodes that a loss's terms, or one player's, and rescaled gradients are made of, in order."""
    roots = [t.node for t in loss.terms if player in (None, t.player)]
    roots += [i for r in loss.rescales for i in (r.node, r.logit)]
    return sorted({j for i in roots for j in (i, *upstream(loss.nodes, i))})


def reached(nodes: Sequence[Node], members: frozenset[str]) -> frozenset[Id]:
    """The nodes that a gradient of the members' parameters goes through."""
    found: set[Id] = set()
    for i, node in enumerate(nodes):
        match node:
            case Net(net=name, old=False) | Parameter(name=name, old=False) if name in members:
                found.add(i)
            case Detach() | Responsibility() | Leaf():
                pass
            case _ if not found.isdisjoint(operands(node)):
                found.add(i)
            case _:
                pass
    return frozenset(found)


class Line:
    """Nodes in order, equal ones once."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.places: dict[Node, Id] = {}

    def add(self, node: Node) -> Id:
        if node not in self.places:
            self.places[node] = len(self.nodes)
            self.nodes.append(node)
        return self.places[node]


def renumbered(loss: Loss, line: Line, moved: Mapping[Id, Id]) -> Loss:
    """The loss upon another line, each node of its own being `moved` there."""
    terms = tuple(replace(t, node=moved[t.node]) for t in loss.terms)
    rescales = tuple(replace(r, node=moved[r.node], logit=moved[r.logit]) for r in loss.rescales)
    return replace(loss, nodes=tuple(line.nodes), terms=terms, rescales=rescales)
