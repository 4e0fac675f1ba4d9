"""The divergences that a goal may be made of: a table. Whoever handles one asks its row, never its name.

Each is an average under the left joint P, E_P{times f(own log P + against log Q)}, or of a penalty on the classifier on
the right. EXPAND makes expectations of a row; what else applies to it follows from its integrand.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class DivergenceRow:
    """`written` is how a user writes it, `takes` how it uses P.

    `own` and `against` are the coefficients of log P and log Q; `function` is what is taken of their sum, if anything,
    and `times` its factor; a constant is left out. `penalty`: the squared slope of a classifier's logit stands in place
    of log Q.
    """

    name: str
    written: str
    own: Fraction
    against: Fraction
    function: str = ""
    times: Fraction = Fraction(1)
    penalty: bool = False
    takes: str = "is taken"

    @property
    def same_variables(self) -> bool:
        """Are both joints over the same variables? They are compared at the same values."""
        return self.own != 0

    @property
    def log_ratio(self) -> bool:
        """Is it E{log P - log Q}? Then a classifier or a critic may stand for the difference, copies bound it
        (`importance`), and a labelled mixture on the left scales the goal."""
        return self.own == 1 and self.against == -1 and not self.function


ROWS: tuple[DivergenceRow, ...] = (
    DivergenceRow("KL", "KL(P || Q)", Fraction(1), Fraction(-1)),
    DivergenceRow("CE", "CE(P || Q)", Fraction(0), Fraction(-1), takes="averages -log Q"),
    DivergenceRow("R1", "R1(P || p(y|x))", Fraction(0), Fraction(1), penalty=True),
)
"""Kullback and Leibler's divergence, the cross-entropy, and the gradient penalty of Mescheder et al. (2018)."""

DIVERGENCES: dict[str, DivergenceRow] = {row.name: row for row in ROWS}
