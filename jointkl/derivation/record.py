"""What `derive` gives: the record of the rules that fired, and the losses that they end in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jointkl.derivation.expr import Expectation
from jointkl.derivation.facts import Facts
from jointkl.derivation.parts import Step
from jointkl.derivation.rules.closed_step import ClosedStep
from jointkl.diagnostics import Report
from jointkl.semantics.model import Model

Losses = Mapping[str, tuple[Expectation, ...]]


@dataclass(frozen=True, slots=True)
class Derivation:
    """The record of the rules that fired, and what they end in: for each player its entries.

    `closed` holds the players that have a closed step.
    """

    model: Model
    facts: Facts
    steps: tuple[Step, ...]
    losses: Losses
    closed: Mapping[str, ClosedStep] = field(default_factory=dict[str, ClosedStep])
    warnings: tuple[Report, ...] = field(default=())

    def __deepcopy__(self, memo: dict[int, object]) -> Derivation:
        """A frozen value is its own copy."""
        return self

    def text(self) -> str:
        """Plain text, line by line as the rules fired."""
        return _shown(self, "text")

    def markdown(self) -> str:
        """A page of GitHub's markdown, formulas between dollars."""
        return _shown(self, "markdown")

    def latex(self) -> str:
        """A document that pdflatex sets, with amsmath and amssymb alone."""
        return _shown(self, "latex")

    def html(self) -> str:
        """A page that needs no other file."""
        return _shown(self, "html")


def _shown(derivation: Derivation, form: str) -> str:
    """This room decides and `exposition` shows: it is imported when somebody looks."""
    from jointkl.exposition.render import FORMATS

    return FORMATS[form](derivation)
