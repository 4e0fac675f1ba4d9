"""Objective to Python: one readable module that needs torch and pyro alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from jointkl.diagnostics import JklError, printable
from jointkl.emission import errors, laws, likelihood, losses, networks, pyro
from jointkl.emission.library import BOUNDED, FUNCTIONS, USES, WITHIN
from jointkl.emission.members import body, tables
from jointkl.emission.names import ATTRIBUTES, MODULE, Names
from jointkl.emission.statements import Function, names, printed
from jointkl.emission.text import documented
from jointkl.emission.writer import Attributes
from jointkl.objective.ir import Loss, Objective
from jointkl.semantics.model import Net
from jointkl.version import VERSION


def emit(objective: Objective, told: str, allow_imports: Collection[str] = ()) -> str:
    """The text of the module: networks, laws, Pyro programs, losses, in one class named `Program`, headed by what is
    `told` of the derivation.

    Raises `JklError` where a net names a class of a module that is not among `allow_imports`.
    """
    verify_allowed(objective.nets, allow_imports)
    members = Names.without(ATTRIBUTES)
    classes = Names.without(MODULE, BOUNDED)
    attributes = _attributes(objective, members)
    closed = (*objective.solutions, *objective.steps)
    solving = {s.player: members.of(("solve", s.player), f"solve_{s.player}") for s in closed}
    methods = {p.player: members.of(("loss", p.player), f"loss_{p.player}") for p in objective.losses}
    programs = pyro.programs(objective, attributes, members)
    own = body(objective, attributes, {n: networks.class_name(classes, net) for n, net in objective.nets.items()})
    sections = {
        "Laws": [laws.law_function(objective, attributes, f) for f in objective.laws],
        "Pyro programs": [function for _, function in programs.values()],
        "Closed steps": [
            *(losses.solution(objective, attributes, s, solving[s.player]) for s in objective.solutions),
            *(likelihood.step(objective, attributes, s, solving[s.player]) for s in objective.steps),
        ],
        "Losses": [losses.loss(objective, attributes, found, methods[found.player]) for found in objective.losses],
        "All losses in turn": [
            losses.in_turn(objective, attributes, found, "in_turn") for found in (objective.in_turn,) if found
        ],
        "All losses at once": [
            losses.together(objective, attributes, found, "together") for found in (objective.together,) if found
        ],
    }
    targets = [net.target for net in objective.nets.values() if net.target and net.heads]
    owns = {target: classes.of(("own", target), target.partition(":")[2]) for target in targets}
    nets = [
        networks.network(net, networks.class_name(classes, net), owns.get(net.target, ""))
        for net in objective.nets.values()
        if net.heads
    ]
    methods_of_nets = [method for net in nets for method in net.methods]
    used = names([*methods_of_nets, *own, *(f for functions in sections.values() for f in functions)])
    lines = [
        "class Program(nn.Module):",
        '    """The laws, programs and losses of the spec over its networks and parameters."""',
        "",
        *tables(objective, attributes, methods, solving, {key: name for key, (name, _) in programs.items()}),
        *(line for function in own for line in ("", *printed(function))),
        *(line for title, functions in sections.items() for line in _section(title, functions)),
    ]
    parts = [_header(objective, told, used, owns), *(net.lines for net in nets), lines]
    return "\n\n\n".join("\n".join(part) for part in parts) + "\n"


def terms(objective: Objective, found: Loss, name: str) -> str:
    """A loss of the objective by its terms, as `losses.apart`: a function of the emitted program and a batch."""
    attributes = _attributes(objective, Names.without(ATTRIBUTES))
    return "\n".join(printed(losses.apart(objective, attributes, found, name), "")) + "\n"


def _attributes(objective: Objective, members: Names) -> Attributes:
    return Attributes(
        {n: members.of(("net", n), n) for n in objective.nets},
        {n: members.of(("param", n), n, "_raw") for n in objective.params},
        {n: members.of(("old net", n), f"old_{n}") for n in objective.old_nets},
        {n: members.of(("old param", n), f"old_{n}") for n in objective.old_params},
        {f.key: members.of(("law", f.key), laws.wanted(f)) for f in objective.laws},
    )


def verify_allowed(nets: Mapping[str, Net], allow_imports: Collection[str]) -> None:
    """Every class of the user's own stands in a module that may be imported. Raises `JklError`."""
    for net in nets.values():
        module = net.target.partition(":")[0]
        if module and module not in allow_imports:
            raise JklError(errors.import_not_allowed(net.built, net.name, module))


def _section(title: str, functions: Iterable[Function]) -> list[str]:
    shown = [line for function in functions for line in ("", *printed(function))]
    return ["", f"    # {title}", *shown] if shown else []


# --- the head


STANDARD: Mapping[str, str] = {
    "copy": "import copy",
    "math": "import math",
    "Iterator": "from collections.abc import Iterator",
}
"""By the name that a module uses, what it imports of the standard library for it."""

TORCH: Mapping[str, str] = {
    "transform_to": "from torch.distributions import constraints, transform_to",
    "kl_divergence": "from torch.distributions import kl_divergence",
    "spectral_norm": "from torch.nn.utils.parametrizations import spectral_norm",
}
"""Likewise of torch."""


def _header(objective: Objective, told: str, used: set[str], owns: Mapping[str, str]) -> list[str]:
    """The docstring, the imports, and the functions and classes that the module uses."""
    needs = f"It needs, beside torch and pyro, {', '.join(sorted(owns))}.\n\n" if owns else ""
    head = f"{printable(objective.spec)}, compiled by jointkl {VERSION}.\n\n{needs}{told}"
    called = _called(used)
    every = used.union(*(USES.get(name, ()) for name in called))
    standard = [line for name, line in STANDARD.items() if name in every]
    lines = ['"""' + documented(head), '"""', "", "from __future__ import annotations", ""]
    lines += [*standard, ""] if standard else []
    lines += ["import pyro", "import pyro.distributions as dist", "import torch"]
    lines += ["import torch.nn.functional as F"] if "F" in every else []
    lines += ["from torch import Tensor, nn", *(line for name, line in TORCH.items() if name in every)]
    lines += ["", *sorted(_import(target, name) for target, name in owns.items())] if owns else []
    within = [] if BOUNDED.keys().isdisjoint(called) else [WITHIN]
    return [*lines, *(line for text in (*within, *map(FUNCTIONS.__getitem__, called)) for line in ("", "", *text))]


def _called(used: set[str]) -> list[str]:
    """The functions and classes that are used, with those that these use."""
    found = [name for name in FUNCTIONS if name in used]
    inner = {name for used_there in found for name in USES.get(used_there, ())}
    return [name for name in FUNCTIONS if name in used or name in inner]


def _import(target: str, name: str) -> str:
    module, _, wanted = target.partition(":")
    return f"from {module} import {wanted}" + (f" as {name}" if name != wanted else "")
