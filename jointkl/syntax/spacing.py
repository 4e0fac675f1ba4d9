"""Tokens to words: what stands between two tokens of a statement, by the rule of the grammar that they belong to."""

# lark's types are partly unknown
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from dataclasses import dataclass, replace

from lark import ParseTree, Token, Tree

from jointkl.syntax.layout import Gap

SIGNS: dict[str, tuple[Gap, Gap]] = {
    "(": (Gap.NONE, Gap.SOFT),
    "[": (Gap.NONE, Gap.SOFT),
    "{": (Gap.SPACE, Gap.SOFT),
    **dict.fromkeys(")]}", (Gap.SOFT, Gap.SPACE)),
    **dict.fromkeys(",;", (Gap.NONE, Gap.LINE)),
    ":": (Gap.NONE, Gap.SPACE),
    "=": (Gap.SPACE, Gap.SPACE),
    **dict.fromkeys(["|", "..", "."], (Gap.NONE, Gap.NONE)),
    "||": (Gap.LINE, Gap.SPACE),
    **dict.fromkeys(["+", "-", "*", "/", "@", "over", "with"], (Gap.FILL, Gap.SPACE)),
}
"""The gaps before and after a sign, in most rules; a word or a number asks for a space."""

ROLES: dict[tuple[str, str], tuple[Gap, Gap]] = {
    ("atom", "("): (Gap.SPACE, Gap.SOFT),
    ("part", "("): (Gap.SPACE, Gap.SOFT),
    ("list", "["): (Gap.SPACE, Gap.SOFT),
    ("mixture", "{"): (Gap.SPACE, Gap.LINE),
    ("mixture", "}"): (Gap.LINE, Gap.SPACE),
    ("head", "|"): (Gap.SPACE, Gap.SPACE),
    ("goal_sum", "+"): (Gap.LINE, Gap.SPACE),
    ("goal_sum", "-"): (Gap.LINE, Gap.SPACE),
    ("goal_mul", "*"): (Gap.SPACE, Gap.SPACE),
    **dict.fromkeys([("neg", "-"), ("goal_neg", "-")], (Gap.SPACE, Gap.NONE)),
    **dict.fromkeys([(rule, "=") for rule in ("keyword", "keywords", "option", "branch")], (Gap.NONE, Gap.NONE)),
    **dict.fromkeys([("tight", sign) for sign in "+-*/@"], (Gap.NONE, Gap.NONE)),
    **dict.fromkeys([(rule, ",") for rule in ("names", "list", "finite", "targets", "with_")], (Gap.NONE, Gap.FILL)),
    **dict.fromkeys([(rule, ",") for rule in ("applied", "dims", "index")], (Gap.NONE, Gap.FILL_SOFT)),
}
"""Where a role asks for other gaps than `SIGNS`."""

LOOSE = ("let", "atom", "arguments", "list", "total", "hinge")
"""Rules in which arithmetic is spaced. Elsewhere it is tight: `1/3 * CE(..)`, `real[K+1]`; so is a product in a sum."""

OPENING, CLOSING = ("(", "[", "{"), (")", "]", "}")


@dataclass(frozen=True, slots=True)
class Word:
    """A token with the gaps that it asks for before and after it, and the groups that begin and end with it."""

    token: Token
    before: Gap
    after: Gap
    opens: int = 0
    closes: int = 0

    @property
    def start(self) -> int:
        return self.token.start_pos or 0

    @property
    def end(self) -> int:
        return self.start + len(self.token)


def labels(spec: ParseTree) -> frozenset[str]:
    """What is defined as a law."""
    heads = (s.children[0] for s in spec.children if isinstance(s, Tree) and s.data == "definition")
    return frozenset(str(head.children[0]) for head in heads if isinstance(head, Tree))


def words(statement: ParseTree, laws: frozenset[str]) -> list[Word]:
    """The tokens of a statement, in order. What stands in brackets is a group, and so is a sum of a goal."""
    found: list[Word] = []
    pending: list[tuple[ParseTree | Token | None, str]] = [(statement, "")]  # None ends a group
    opens = 0
    while pending:
        node, parent = pending.pop()
        if isinstance(node, Tree):
            role = _role(node, parent, laws)
            if role == "goal_sum" and len(node.children) > 1:
                opens += 1
                pending.append((None, role))
            pending += [(child, role) for child in reversed(list(filter(None, node.children)))]
        elif node is None:
            found[-1] = replace(found[-1], closes=found[-1].closes + 1)
        else:
            sign = str(node)
            before, after = ROLES.get((parent, sign)) or SIGNS.get(sign, (Gap.SPACE, Gap.SPACE))
            found.append(Word(node, before, after, opens + (sign in OPENING), int(sign in CLOSING)))
            opens = 0
    return found


def _role(node: ParseTree, parent: str, laws: frozenset[str]) -> str:
    """The name of the rule, told apart where one rule is written in two ways. `parent` is the role around it."""
    match node.data:
        case "product" if parent in ("divergence", "branch") or sum(isinstance(c, Tree) for c in node.children) > 1:
            return "laws"
        case "factor":
            return parent
        case "call" if parent == "laws" or "|" in node.children or str(node.children[0]) in laws:
            return "application"
        case "law":
            return "head" if parent == "definition" else "application"
        case "names" | "arguments" if parent == "application":
            return "applied"
        case "chain" if parent not in LOOSE:
            return "tight"
        case rule:
            return str(rule)
