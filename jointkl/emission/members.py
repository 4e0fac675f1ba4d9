"""What every emitted class has: its tables, how it is made, draws, spaces of params, the snapshot."""

from __future__ import annotations

from collections.abc import Mapping

from jointkl.emission.losses import NO_GRAD
from jointkl.emission.statements import Comment, Do, Function, Put, Statement, With
from jointkl.emission.terms import WITHOUT_EVIDENCE
from jointkl.emission.tree import Attribute, Call, Expression, Literal, Name, call, member, own, pair, quoted, string
from jointkl.emission.writer import Attributes
from jointkl.objective.ir import Objective
from jointkl.semantics.spaces import CONSTRAINT, Space

TRUE, FALSE = Literal("True"), Literal("False")


def tables(
    objective: Objective,
    attributes: Attributes,
    methods: Mapping[str, str],
    solving: Mapping[str, str],
    programs: Mapping[str, str],
) -> list[str]:
    """The spec's names with the members that bear them."""
    lines = ["    players = {"]
    for p in objective.players:
        if p.name in methods or p.name in solving:
            members = ", ".join(quoted(_member(attributes, m)) for m in p.members)
            lines.append(f"        {quoted(p.name)}: ({members}{',' if len(p.members) == 1 else ''}),")
    lines.append("    }")
    found: dict[str, Mapping[str, str]] = {
        "nets": {n: attributes.nets[n] for n, net in objective.nets.items() if net.heads},
        "params": attributes.params,
        "laws": attributes.laws,
        "programs": programs,
        "losses": methods,
        "solutions": solving,
    }
    for name, table in found.items():
        inner = ", ".join(f"{quoted(k)}: {quoted(v)}" for k, v in table.items())
        if len(inner) < 90:
            lines.append(f"    {name} = {{{inner}}}")
        else:
            lines += [f"    {name} = {{", *(f"        {quoted(k)}: {quoted(v)}," for k, v in table.items()), "    }"]
    return lines


def _member(attributes: Attributes, name: str) -> str:
    """The attribute of a net or param; a Free law has none."""
    return attributes.nets.get(name) or attributes.params.get(name) or name


def body(objective: Objective, attributes: Attributes, classes: Mapping[str, str]) -> list[Function]:
    """The methods that are of no law and no loss; `classes` are those of the networks."""
    mapped = {name: p.space for name, p in objective.params.items() if p.space.kind != "real"}
    properties = [_property(name, attributes.params[name], space) for name, space in mapped.items()]
    old = objective.old_nets or objective.old_params
    return [_made(objective, attributes, classes), NORMAL, FULL, *properties, *([_snapshot(attributes)] if old else [])]


def _made(objective: Objective, attributes: Attributes, classes: Mapping[str, str]) -> Function:
    found: list[Statement] = [Do(call("super").do("__init__"))]
    for name, net in objective.nets.items():
        if net.heads:
            found.append(Put(member(attributes.nets[name]), call(classes[name])))
    for name, param in objective.params.items():
        kept = attributes.params[name] if param.space.kind == "real" else f"{attributes.params[name]}_raw"
        found.append(Put(member(kept), call("nn.Parameter", _start(param.space))))
    anchor = call("torch.zeros", pair())
    found.append(Do(own("register_buffer", string("anchor"), anchor, persistent=FALSE)))
    if objective.has_globals:
        laws = list(objective.sources) or [WITHOUT_EVIDENCE]
        sizes = Literal(f"{{{', '.join(f'{quoted(law)}: None' for law in laws)}}}")
        found.append(Comment("N of each source, where a batch is not the whole of it"))
        found.append(Put(Name("self.data_sizes: dict[str, int | None]"), sizes))
    for name, old in attributes.old_nets.items():
        copied = call("copy.deepcopy", member(attributes.nets[name]))
        found.append(Put(member(old), copied.do("requires_grad_", FALSE)))
    for name, old in attributes.old_params.items():
        value = member(attributes.params[name]).do("detach").do("clone")
        found.append(Do(own("register_buffer", string(old), value)))
    return Function("def __init__(self) -> None:", (), tuple(found))


def _start(space: Space) -> Expression:
    """What a param is before training."""
    if not space.shape:
        return call("torch.zeros", pair())
    return call("torch.randn" if space.kind == "real" else "torch.zeros", *space.shape)


ANCHOR = member("anchor")

NORMAL = Function(
    "def normal(self, *shape: int) -> Tensor:",
    ('"""Standard normal noise, of the type and on the device of the parameters."""',),
    (
        Do(
            call("torch.randn", Name("shape"), dtype=Attribute(ANCHOR, "dtype"), device=Attribute(ANCHOR, "device")),
            "return",
        ),
    ),
)
FULL = Function(
    "def full(self, value: float, *shape: int) -> Tensor:",
    ('"""A constant, of the type and on the device of the parameters."""',),
    (Do(ANCHOR.do("new_full", Name("shape"), Name("value")), "return"),),
)


def _property(name: str, kept: str, space: Space) -> Function:
    """A param in its space."""
    to_space = call("transform_to", Name(f"constraints.{CONSTRAINT[space.kind]}"))
    return Function(
        f"def {kept}(self) -> Tensor:",
        (f'"""param {name}: {space}"""',),
        (Do(Call(to_space, (member(f"{kept}_raw"),)), "return"),),
        "@property",
    )


def _snapshot(attributes: Attributes) -> Function:
    renewed: list[Statement] = []
    for name, old in attributes.old_nets.items():
        state = member(attributes.nets[name]).do("state_dict")
        renewed.append(Do(member(old).do("load_state_dict", state)))
    for name, old in attributes.old_params.items():
        renewed.append(Do(member(old).do("copy_", member(attributes.params[name]))))
    return Function(
        "def snapshot(self) -> None:",
        ('"""Renew the old copies."""',),
        (With(NO_GRAD, tuple(renewed)),),
        uses=("copy",),
    )
