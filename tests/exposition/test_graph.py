"""The factor graph as a view of the model."""

from __future__ import annotations

import jointkl
from jointkl.exposition.graph import ancestors, d_separated, factor_graph, variables
from jointkl.semantics.model import Joint

CHAIN = """
data(x) = evidence()
var x, z, w, u: real
net A = linear()
p(z | x) = Normal(A(x), 1)
p(w | z) = Normal(z, 1)
p(u | z) = Normal(z, 1)
q(z) = Normal(0, 1)
q(w) = Normal(0, 1)
q(u | z, w) = Normal(z + w, 1)
p(x, z, w, u) = data(x) * p(z|x) * p(w|z) * p(u|z)
q(x, z, w, u) = data(x) * q(z) * q(w) * q(u|z,w)
minimize KL(p(x,z,w,u) || q(x,z,w,u))
"""


def graph(key: str):
    model = jointkl.parse(CHAIN)
    body = model.laws[key].body
    assert isinstance(body, Joint)
    return factor_graph(model, body.branches[0])


def test_it_has_a_node_for_each_variable_and_factor() -> None:
    g = graph("p(x,z,w,u)")
    assert set(variables(g)) == {"x", "z", "w", "u"}
    assert {d["text"] for n, d in g.nodes(data=True) if n[0] == "factor"} == {"data(x)", "p(z|x)", "p(w|z)", "p(u|z)"}


def test_ancestors() -> None:
    assert ancestors(graph("p(x,z,w,u)"), ["w"]) == {"x", "z"}
    assert ancestors(graph("q(x,z,w,u)"), ["u"]) == {"z", "w"}


def test_d_separation_of_a_chain_a_fork_and_a_collider() -> None:
    p, q = graph("p(x,z,w,u)"), graph("q(x,z,w,u)")
    assert d_separated(p, ["x"], ["w"], ["z"])
    assert not d_separated(p, ["x"], ["w"], [])
    assert d_separated(p, ["w"], ["u"], ["z"])
    assert not d_separated(p, ["w"], ["u"], [])
    assert d_separated(q, ["z"], ["w"], [])
    assert not d_separated(q, ["z"], ["w"], ["u"])
