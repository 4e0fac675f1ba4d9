"""Objective to Python: one readable module that needs torch and pyro alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from jointkl.diagnostics import JklError, printable
from jointkl.emission import errors, formulas, laws, likelihood, losses, networks, pyro
from jointkl.emission.library import BOUNDED, FUNCTIONS, WITHIN
from jointkl.emission.lines import Attributes
from jointkl.emission.names import ATTRIBUTES, MODULE, Names
from jointkl.emission.text import documented, quoted
from jointkl.objective.ir import Loss, Objective, Player
from jointkl.semantics.model import Net
from jointkl.semantics.spaces import CONSTRAINT
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
    emitted = pyro.programs(objective, attributes, members)
    trained = tuple(p for p in objective.players if p.name in methods or p.name in solving)
    body = [
        "class Program(nn.Module):",
        '    """The laws, programs and losses of the spec over its networks and parameters."""',
        "",
        *_tables(objective, attributes, methods, solving, emitted, trained),
        *_class(objective, attributes, classes),
        *_section("Laws", [laws.law_function(objective, attributes, f) for f in objective.laws]),
        *_section("Pyro programs", [list(e.lines) for e in emitted]),
        *_section(
            "Closed steps",
            [
                *(losses.solution(objective, attributes, s, solving[s.player]) for s in objective.solutions),
                *(likelihood.step(objective, attributes, s, solving[s.player]) for s in objective.steps),
            ],
        ),
        *_section(
            "Losses", [losses.loss(objective, attributes, found, methods[found.player]) for found in objective.losses]
        ),
        *_section(
            "All losses in turn",
            [losses.in_turn(objective, attributes, objective.in_turn, "in_turn")] if objective.in_turn else [],
        ),
        *_section(
            "All losses at once",
            [losses.together(objective, attributes, objective.together, "together")] if objective.together else [],
        ),
    ]
    targets = [net.target for net in objective.nets.values() if net.target and net.heads]
    owns = {target: classes.of(("own", target), target.partition(":")[2]) for target in targets}
    nets = [
        networks.network(net, networks.class_name(classes, net), owns.get(net.target, ""))
        for net in objective.nets.values()
        if net.heads
    ]
    text = "\n".join(body)
    text_nets = "\n\n\n".join("\n".join(net) for net in nets)
    head = _header(objective, told, _code(text + text_nets), owns)
    return f"{head}\n\n\n{text_nets}\n\n\n{text}\n" if nets else f"{head}\n\n\n{text}\n"


def terms(objective: Objective, found: Loss, name: str) -> str:
    """A loss of the objective by its terms, as `losses.apart`: a function of the emitted program and a batch."""
    attributes = _attributes(objective, Names.without(ATTRIBUTES))
    return "\n".join(losses.apart(objective, attributes, found, name)) + "\n"


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


def _header(objective: Objective, told: str, code: str, owns: Mapping[str, str]) -> str:
    source = printable(objective.spec)
    head = f"{source}, compiled by jointkl {VERSION}.\n\n{_needs(owns)}{told}"
    copies = bool(objective.old_nets or objective.old_params)
    lines = ['"""' + documented(head), '"""', "", "from __future__ import annotations", ""]
    called = _called(code)
    code += _code("\n".join(line for text in called for line in text))
    standard = [f"import {name}" for name, used in (("copy", copies), ("math", "math." in code)) if used]
    standard += ["from collections.abc import Iterator"] if "Iterator[" in code else []
    lines += [*standard, ""] if standard else []
    lines += ["import pyro", "import pyro.distributions as dist", "import torch"]
    if re.search(r"(?<![\w.])F\.", code):
        lines.append("import torch.nn.functional as F")
    lines += ["from torch import Tensor, nn"]
    if "transform_to(" in code:
        lines.append("from torch.distributions import constraints, transform_to")
    if "kl_divergence(" in code:
        lines.append("from torch.distributions import kl_divergence")
    if _calls(code, "spectral_norm"):
        lines.append("from torch.nn.utils.parametrizations import spectral_norm")
    lines += ["", *sorted(_import(target, name) for target, name in owns.items())] if owns else []
    for text in called:
        lines += ["", "", *text]
    return "\n".join(lines)


def _called(code: str) -> list[tuple[str, ...]]:
    """The functions and classes that code uses, with those that these use."""
    found = {name: text for name, text in FUNCTIONS.items() if _calls(code, name)}
    inner = _code("\n".join(line for text in found.values() for line in text))
    found |= {name: text for name, text in FUNCTIONS.items() if _calls(inner, name)}
    within = [] if BOUNDED.keys().isdisjoint(found) else [WITHIN]
    return [*within, *(text for name, text in FUNCTIONS.items() if name in found)]


def _calls(code: str, function: str) -> bool:
    return re.search(rf"(?<![\w.])(?<!def ){function}\(", code) is not None


def _code(text: str) -> str:
    """What runs of a text: no string and no comment."""
    return re.sub(r'""".*?"""|"(?:[^"\\\n]|\\.)*"|#[^\n]*', "", text, flags=re.DOTALL)


def _needs(owns: Mapping[str, str]) -> str:
    """What the module needs beside torch and pyro."""
    return f"It needs, beside torch and pyro, {', '.join(sorted(owns))}.\n\n" if owns else ""


def _import(target: str, name: str) -> str:
    module, _, wanted = target.partition(":")
    return f"from {module} import {wanted}" + (f" as {name}" if name != wanted else "")


def _section(title: str, functions: list[list[str]]) -> list[str]:
    functions = [f for f in functions if f]
    if not functions:
        return []
    return ["", f"    # {title}", *(line for f in functions for line in ("", *f))]


def _class(objective: Objective, attributes: Attributes, classes: Names) -> list[str]:
    lines = [
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
    ]
    for name, net in objective.nets.items():
        if net.heads:
            lines.append(f"        self.{attributes.nets[name]} = {networks.class_name(classes, net)}()")
    for name, param in objective.params.items():
        shape = ", ".join(map(str, param.space.shape))
        start = f"torch.randn({shape})" if param.space.kind == "real" and shape else f"torch.zeros({shape or '()'})"
        raw = attributes.params[name] if param.space.kind == "real" else f"{attributes.params[name]}_raw"
        lines.append(f"        self.{raw} = nn.Parameter({start})")
    lines.append('        self.register_buffer("anchor", torch.zeros(()), persistent=False)')
    if objective.has_globals:
        lines += _sizes(objective)
    for name, old in attributes.old_nets.items():
        lines.append(f"        self.{old} = copy.deepcopy(self.{attributes.nets[name]}).requires_grad_(False)")
    for name, old in attributes.old_params.items():
        lines.append(f'        self.register_buffer("{old}", self.{attributes.params[name]}.detach().clone())')
    lines += _draws()
    for name, param in objective.params.items():
        if param.space.kind != "real":
            member = attributes.params[name]
            lines += [
                "",
                "    @property",
                f"    def {member}(self) -> Tensor:",
                f'        """param {name}: {param.space}"""',
                f"        return transform_to(constraints.{CONSTRAINT[param.space.kind]})(self.{member}_raw)",
            ]
    if objective.old_nets or objective.old_params:
        lines += _snapshot(attributes)
    return lines


def _sizes(objective: Objective) -> list[str]:
    """N for each source, which training sets."""
    laws = list(objective.sources) or [formulas.WITHOUT_EVIDENCE]
    sizes = ", ".join(f"{quoted(law)}: None" for law in laws)
    line = f"        self.data_sizes: dict[str, int | None] = {{{sizes}}}"
    return ["        # N of each source, where a batch is not the whole of it", line]


def _member(attributes: Attributes, member: str) -> str:
    """The attribute of a net or param; a Free law has none."""
    return attributes.nets.get(member) or attributes.params.get(member) or member


def _draws() -> list[str]:
    return [
        "",
        "    def normal(self, *shape: int) -> Tensor:",
        '        """Standard normal noise, of the type and on the device of the parameters."""',
        "        return torch.randn(shape, dtype=self.anchor.dtype, device=self.anchor.device)",
        "",
        "    def full(self, value: float, *shape: int) -> Tensor:",
        '        """A constant, of the type and on the device of the parameters."""',
        "        return self.anchor.new_full(shape, value)",
    ]


def _snapshot(attributes: Attributes) -> list[str]:
    lines = [
        "",
        "    def snapshot(self) -> None:",
        '        """Renew the old copies."""',
        "        with torch.no_grad():",
    ]
    for name, old in attributes.old_nets.items():
        lines.append(f"            self.{old}.load_state_dict(self.{attributes.nets[name]}.state_dict())")
    for name, old in attributes.old_params.items():
        lines.append(f"            self.{old}.copy_(self.{attributes.params[name]})")
    return lines


def _tables(
    objective: Objective,
    attributes: Attributes,
    methods: dict[str, str],
    solving: dict[str, str],
    emitted: tuple[pyro.Emitted, ...],
    players: tuple[Player, ...],
) -> list[str]:
    """The spec's names with the members that bear them."""
    lines = ["    players = {"]
    for p in players:
        members = ", ".join(quoted(_member(attributes, m)) for m in p.members)
        lines.append(f"        {quoted(p.name)}: ({members}{',' if len(p.members) == 1 else ''}),")
    lines.append("    }")
    tables = {
        "nets": {n: attributes.nets[n] for n, net in objective.nets.items() if net.heads},
        "params": attributes.params,
        "laws": attributes.laws,
        "programs": {e.key: e.method for e in emitted},
        "losses": methods,
        "solutions": solving,
    }
    for name, table in tables.items():
        inner = ", ".join(f"{quoted(k)}: {quoted(v)}" for k, v in table.items())
        if len(inner) < 90:
            lines.append(f"    {name} = {{{inner}}}")
        else:
            lines += [f"    {name} = {{", *(f"        {quoted(k)}: {quoted(v)}," for k, v in table.items()), "    }"]
    return lines
