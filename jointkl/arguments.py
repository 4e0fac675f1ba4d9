"""What several verbs take, and what they do with it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import click

from jointkl.console import pairs, say
from jointkl.derivation.derive import Derivation
from jointkl.diagnostics import MOST_TOLD, render

LET = click.option("--let", "lets", multiple=True, metavar="NAME=VALUE", help="Another value of the spec's constant.")
ALLOW = click.option(
    "--allow-import", "allowed", multiple=True, metavar="MODULE",
    help="Import this module of yours, which the spec names in python(...); it is looked for here too.",
)  # fmt: skip
RAW = click.option("--raw", is_flag=True, help="By the parameters, even where the run keeps averages of them.")
BEST = click.option("--best", is_flag=True, help="At the best checkpoint of a run that was judged as it went.")
DEVICE = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
    help="auto takes a GPU if there is one.",
)  # fmt: skip
FILES = click.argument("files", nargs=-1, required=True, metavar="FILE...")


def lets_of(texts: Iterable[str]) -> dict[str, str]:
    return pairs("--let", texts, "a constant and its value, as in --let K=3")


def look_here(allowed: tuple[str, ...]) -> None:
    """Modules that may be imported are looked for in the current folder too, behind what is installed."""
    if allowed and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def warn(derivation: Derivation) -> None:
    for report in derivation.warnings[:MOST_TOLD]:
        say(render(report))
    others = len(derivation.warnings) - MOST_TOLD
    if others > 0:
        say(f"and {others} more {'warnings' if others > 1 else 'warning'}")
