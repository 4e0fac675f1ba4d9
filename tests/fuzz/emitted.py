"""What an emitted module may hold: torch and pyro, its own names, and of the spec's text nothing that runs."""

from __future__ import annotations

import ast
import copy
import math
from functools import cache

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Distribution, Transform, constraints

IMPORTS = {
    "__future__": {"annotations"},
    "collections.abc": {"Iterator"},
    "copy": set(),
    "math": set(),
    "pyro": set(),
    "pyro.distributions": set(),
    "torch": {"Tensor", "nn"},
    "torch.nn.functional": set(),
    "torch.distributions": {"constraints", "transform_to", "kl_divergence"},
}
BUILTINS = {
    "super",
    "len",
    "next",
    "iter",
    "int",
    "float",
    "str",
    "bool",
    "dict",
    "tuple",
    "property",
    "range",
    "ValueError",
    "list",
}
SPACES = (
    *(torch, torch.Tensor, torch.device, nn, nn.Module, nn.Linear(1, 1), F, Distribution, Transform),
    *(constraints, constraints.real),
    *(pyro, pyro.poutine, dist, dist.TorchDistribution, math, copy, dict),
    *(dist.Uniform(0.0, 1.0), dist.AffineBeta(1.0, 1.0, 0.0, 1.0), dist.Pareto(1.0, 1.0), dist.Binomial(1, 0.5)),
)
"""Where the attributes that the module reads may come from, beside its own class."""

STATEMENTS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
"""What stands in the module behind its docstring: nothing that runs when it is imported but these."""

NEVER = (ast.Global, ast.Nonlocal, ast.AsyncFunctionDef, ast.Lambda, ast.Try, ast.Delete, ast.NamedExpr, ast.Await)


def verify_module(text: str) -> ast.Module:
    """The module's tree. Raises `AssertionError` where the text is not such a module."""
    tree = ast.parse(text)
    nodes = list(ast.walk(tree))
    own: set[str] = set()
    members: set[str] = set()
    for node in nodes:
        match node:
            case ast.Import(names=names):
                for a in names:
                    assert a.name in IMPORTS, f"imports {a.name}"
                    own.add(a.asname or a.name.split(".")[0])
            case ast.ImportFrom(module=module, names=names):
                assert {a.name for a in names} <= IMPORTS.get(module or "", set()), f"imports from {module}"
                own |= {a.asname or a.name for a in names}
            case ast.ClassDef(name=name):
                own.add(name)
            case ast.FunctionDef(name=name, args=args):
                own |= {name, *(a.arg for a in (*args.args, *args.kwonlyargs, *args.posonlyargs))}
                own |= {a.arg for a in (args.vararg, args.kwarg) if a}
                members.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                own.add(name)
                members.add(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=attr, ctx=ast.Store()):
                members.add(attr)
            case ast.Call(func=ast.Attribute(attr="register_buffer"), args=[ast.Constant(value=str(attr)), *_]):
                members.add(attr)
            case ast.Constant(value=float(value)):
                assert math.isfinite(value), "holds a number that is none"
            case _:
                assert not isinstance(node, NEVER), f"holds a {type(node).__name__}"
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                assert name in own or name in BUILTINS, f"reads {name}, which is not its own"
            case ast.Attribute(attr=attr):
                assert attr in members or known(attr), f"reads .{attr}"
                assert not attr.startswith("__") or attr == "__init__", f"reads .{attr}"
            case _:
                pass
    docstring, *statements = tree.body
    assert isinstance(docstring, ast.Expr), "begins with something else than its docstring"
    assert isinstance(docstring.value, ast.Constant)
    assert all(isinstance(s, STATEMENTS) for s in statements), "does something when it is imported"
    return tree


@cache
def known(attribute: str) -> bool:
    return any(hasattr(space, attribute) for space in SPACES)


def verify_file(text: str, tree: ast.Module) -> None:
    """The module written to a file is the module: no line of it declares another encoding, every string is text."""
    assert compile(text.encode("utf-8"), "<emitted>", "exec") == compile(tree, "<emitted>", "exec")
