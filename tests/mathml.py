"""MathML read back into a line of text, by its own rules: every element has the children that it must have."""

from __future__ import annotations

import re
from xml.etree import ElementTree

LEAVES = {"mi", "mn", "mo", "mtext"}
SCRIPTS = {"msub": "{}_{}", "msup": "{}^{}", "mfrac": "{}/{}"}
ROWS = {"math", "mrow", "mtd"}
FORMULA = re.compile(r"<math>.*?</math>(?:<wbr><math>.*?</math>)*", re.DOTALL)
"""A formula on a page, broken or not."""


def read(formula: str) -> str:
    """`<msub>` is `a_b`, `<msup>` `a^b`, `<mfrac>` `a/b`, the rows of a table stand behind semicolons."""
    return _read(ElementTree.fromstring(f"<math>{formula.replace('<wbr>', '')}</math>"))


def formulas(page: str) -> list[str]:
    """Every formula of a page, as `read` has it."""
    return [read(found[0]) for found in FORMULA.finditer(page)]


def _read(node: ElementTree.Element) -> str:
    inside = [_read(child) for child in node]
    if node.tag in LEAVES:
        assert not inside, node.tag
        assert (node.text or "").strip(), "a leaf without a sign"
        return node.text or ""
    assert not "".join([node.text or "", *(child.tail or "" for child in node)]).strip(), "a sign outside of a leaf"
    if node.tag in SCRIPTS:
        assert len(inside) == 2, f"{node.tag} of {len(inside)}"
        return SCRIPTS[node.tag].format(*inside)
    if node.tag in ROWS:
        return "".join(inside)
    if node.tag == "mtable":
        assert {child.tag for child in node} == {"mtr"}
        return ";".join(inside)
    if node.tag == "mtr":
        assert {child.tag for child in node} == {"mtd"}
        return "".join(inside)
    assert node.tag == "mspace", node.tag
    return " "
