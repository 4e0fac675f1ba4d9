"""Mistakes of form: text that the grammar cannot read.

`EXAMPLES` gives each common mistake its malformed samples; the parser state at the mistake is matched against theirs
(lark's `match_examples`), which names what was meant without a grammar of errors.
"""

from __future__ import annotations

from jointkl.diagnostics import Report, Span

RESERVED = frozenset(
    "var param net let player train minimize maximize over with global old max"
    " prod sum for in where given per use frozen observed missing".split()
)

EXAMPLES: dict[str, tuple[str, ...]] = {}

EXPLAINED: dict[str, tuple[str, tuple[str, ...]]] = {}

TOKENS: dict[str, str] = {
    "NAME": "a name",
    "INT": "a whole number",
    "NUMBER": "a number",
    "STRING": "a quoted text",
    "EQUAL": "`=`",
    "COLON": "`:`",
    "COMMA": "`,`",
    "SEMICOLON": "`;`",
    "VBAR": "`|`",
    "__ANON_0": "`||`",
}


def nested_too_deeply(span: Span, depth: int) -> Report:
    return Report(
        "E-SYNTAX",
        f"brackets or signs nested more than {depth} deep",
        span,
        "one too many",
        help=("name a part with `let`, or give it a law of its own",),
    )


def unexpected_character(span: Span) -> Report:
    return Report("E-SYNTAX", f"the character {span.text!r} has no meaning here", span)


def unexpected_word(span: Span, title: str | None, expected: frozenset[str]) -> Report:
    return Report("E-SYNTAX", f"unexpected `{span.text}`", span)


def unexpected_end(span: Span, title: str | None, expected: frozenset[str]) -> Report:
    return Report("E-SYNTAX", "the text ends in the middle of a statement", span)
