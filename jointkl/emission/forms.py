"""How each kind of node is written, in one table."""

from __future__ import annotations

from collections.abc import Iterable

from jointkl.emission import terms, values
from jointkl.emission.names import MODULE, Names
from jointkl.emission.writer import Attributes, Forms, Writer
from jointkl.objective import ir

FORMS = Forms(values.FORMS, terms.FORMS, values.name)


def writer(
    objective: ir.Objective, nodes: tuple[ir.Node, ...], attributes: Attributes, reserved: Iterable[str] = ()
) -> Writer:
    """A writer of the nodes of one function, some local names of which are `reserved`."""
    return Writer(objective, nodes, attributes, Names.without(MODULE, reserved), FORMS)
