"""Mistakes of form: text that the grammar cannot read.

Where the parser stops, `explain` asks `FINDERS` in order; each answers for one mistake, or with None. Mistakes that
need no code are rows of `samples.py`. What nobody recognises is told as it is: what stands there, what could.
"""

from __future__ import annotations

from collections.abc import Callable

from jointkl.diagnostics import Report, Span, nearest
from jointkl.syntax.characters import FOREIGN, reserved, run
from jointkl.syntax.samples import Sample
from jointkl.syntax.stop import CLOSERS, END, RESERVED, STATEMENTS, Stop, mended, replaced, words_before
from jointkl.syntax.wording import described, instead, listed, missing, rather, report, word_or_gap

Finder = Callable[[Stop], Report | None]


def explain(stop: Stop, row: Sample | None) -> Report:
    """The mistake at `stop`; `row` is the sample that stops the parser in the same way, if one does."""
    shown = None if row is None else shown_by_sample(stop, row)
    exact = shown if row is not None and not row.whatever else None
    return _first(BEFORE_SAMPLES, stop) or exact or _first(FINDERS, stop) or shown or unexpected(stop)


def _first(finders: tuple[Finder, ...], stop: Stop) -> Report | None:
    return next((found for find in finders if (found := find(stop))), None)


def shown_by_sample(stop: Stop, row: Sample) -> Report:
    def fill(text: str) -> str:
        return text.replace("{before}", stop.before.text).replace("{line}", stop.line)

    message, help = fill(row.message), tuple(fill(line) for line in row.help)
    if row.instead is not None:
        return instead(stop, message, row.instead, *help, label=row.label)
    return report(stop, message, *help, label=fill(row.label), span=word_or_gap(stop) if row.whatever else None)


def unexpected(stop: Stop) -> Report:
    if stop.kind == END:
        causes = tuple((bracket, "still open") for bracket in stop.open_brackets[-1:])
        return report(
            stop, "the text ends in the middle of a statement", f"go on with {described(stop.expected)}", causes=causes
        )
    return report(stop, f"unexpected `{stop.span.text}`", f"expected {described(stop.expected)}")


def foreign_sign(stop: Stop) -> Report | None:
    """`==`, `//`: the parser stops at one of the sign's characters."""
    text = stop.source.text
    for sign, (what, new) in FOREIGN.items():
        start = text.find(sign, max(0, stop.span.start - len(sign) + 1), stop.span.start + len(sign))
        if start >= 0:
            span = Span(stop.source, start, start + len(sign))
            lines = () if new is None else (mended(stop.source, span.start, span.end, new),)
            return report(stop, f"`{sign}` is not of the language", what, *lines, span=span)
    return None


def number_cut_at_dot(stop: Stop) -> Report | None:
    if stop.kind != ".":
        return None
    after = run(stop.span, r"\.\d+")
    if after.end > stop.span.end:
        return report(stop, f"`{after.text}` is not a number", f"write `0{after.text}`", span=after)
    if stop.before.text.isdecimal() and stop.before.end == stop.span.start:
        span = Span(stop.source, stop.before.start, stop.span.end)
        return report(
            stop, f"`{span.text}` is not a number", f"write `{span.text}0` or `{stop.before.text}`", span=span
        )
    return None


def wrong_bracket(stop: Stop) -> Report | None:
    """A closing bracket that matches no open one, or not the innermost."""
    if stop.kind not in CLOSERS.values():
        return None
    opened = stop.open_brackets
    if not opened:
        return instead(stop, f"`{stop.kind}` closes a bracket that was never opened", " ", label="nothing to close")
    closer = CLOSERS[opened[-1].text]
    if closer == stop.kind or closer not in stop.expected:
        return None
    outer = [bracket.text for bracket in opened if CLOSERS[bracket.text] == stop.kind]
    if outer and stop.line.count(stop.kind) <= stop.line.count(outer[0]):
        return _unclosed(stop, opened[-1])
    line = replaced(stop.span, closer)
    causes = ((opened[-1], "opened here"),)
    return report(stop, f"`{opened[-1].text}` is closed by `{stop.kind}`", f"write `{closer}`:", line, causes=causes)


def _unclosed(stop: Stop, bracket: Span) -> Report:
    closer = CLOSERS[bracket.text]
    if stop.source.text.startswith("{ ", bracket.start):
        closer = " } "
    elif not stop.source.text.startswith((",", ";", ")", "]", "}", "["), stop.span.start):
        closer += " "
    causes = ((bracket, "opened here"),)
    return missing(stop, f"`{bracket.text}` is never closed", closer, causes=causes)


def reserved_word(stop: Stop) -> Report | None:
    """But where it starts the next line or a clause, what stands before it lacks its end."""
    if "NAME" not in stop.expected or stop.span.text not in RESERVED:
        return None
    if not stop.same_line and not (stop.starts_statement and stop.kind in ("SUM", "max")):
        return None
    goal = stop.head in ("minimize", "maximize") and not stop.open_brackets
    if stop.kind in ("over", "with") and (goal or stop.starts_statement):
        return None
    return None if stop.kind in ("OLD", "GLOBAL") and stop.starts_statement else reserved(stop, stop.span)


def unclosed_bracket(stop: Stop) -> Report | None:
    bracket = stop.closable
    if bracket is None:
        return None
    line = stop.source.line(stop.span.line)
    match stop.kind:
        case "=":
            ends = line.count("(") > line.count(")")
        case ";":
            ends = "{" in (outer.text for outer in stop.open_brackets[:-1])
        case "NAME":
            ends = not stop.goes_on
        case _:
            ends = stop.kind in (*STATEMENTS, "DIRECTION", "with", "over", END)
    return _unclosed(stop, bracket) if ends else None


def misspelt_statement(stop: Stop) -> Report | None:
    """`minimise KL(..)`, `trian(batch=1)`: the statement's first word is no law's label."""
    opening = stop.opening
    if opening is None or opening.text in RESERVED:
        return None
    bracket = stop.closable
    alone = stop.expected == frozenset("(") and stop.before == opening and stop.kind not in ("=", ":", END)
    called = stop.kind in ("=", "(") and bracket is not None and bracket.start == opening.end
    known = (*STATEMENTS, "over", "with") if alone else ("train", "minimize", "maximize") if called else ()
    guess = nearest(opening.text.lower(), known)
    message = f"`{opening.text}` starts no statement"
    if guess:
        return rather(stop, message, opening, guess, f"did you mean `{guess}`?")
    if alone:
        starts = listed(f"`{word}`" for word in STATEMENTS)
        return report(stop, message, f"it starts with {starts},", "or is a law: q(x) = Normal(0, 1)", span=opening)
    return None


def misspelt_clause(stop: Stop) -> Report | None:
    """`KL(..) wiht game=minimax`, `real globl`."""
    known = {"GLOBAL": "global", "over": "over", "with": "with"}
    guess = nearest(stop.span.text, (word for kind, word in known.items() if kind in stop.expected))
    if stop.kind != "NAME" or guess is None:
        return None
    return rather(stop, f"unexpected `{stop.span.text}`", stop.span, guess, f"did you mean `{guess}`?")


def needless_sign(stop: Stop) -> Report | None:
    if stop.kind in (";", ",") and stop.starts_statement:
        return instead(stop, f"a statement needs no `{stop.kind}`", " ")
    return None


def semicolon_for_comma(stop: Stop) -> Report | None:
    if stop.kind == ";" and "," in stop.expected:
        return instead(stop, "what stands in these brackets is parted by `,`", ", ")
    return None


def list_in_round_brackets(stop: Stop) -> Report | None:
    bracket = stop.closable
    if stop.kind != "," or bracket is None or bracket.text != "(" or "," in stop.expected:
        return None
    if any(word.text.strip("'").isidentifier() for word in words_before(bracket)[-1:]):
        return None
    causes = ((bracket, "opened here"),)
    return report(stop, "a list stands in square brackets", "write it as `[0.2, 0.8]`", causes=causes)


def comma_between_terms(stop: Stop) -> Report | None:
    if stop.kind == "," and "over" in stop.expected:
        return instead(stop, "the terms of a goal add up", " + ")
    return None


def weight_behind(stop: Stop) -> Report | None:
    if stop.kind not in ("*", "/") or "over" not in stop.expected:
        return None
    help = (
        "write it before the term; anything but a number goes through a constant:",
        "let w = 1 - b",
        "minimize w * KL(P || Q) + 1/3 * CE(P || Q)",
    )
    return report(stop, "a weight is a number or a name, and stands first", *help)


def sum_of_laws(stop: Stop) -> Report | None:
    if stop.kind not in ("+", "-", "/", "@") or "*" not in stop.expected or {"+", "over"} & stop.expected:
        return None
    help = (
        "a sum of laws is a mixture, a computed value a Delta:",
        "q(x) = { s=0: a(x); s=1: b(x) }",
        "q(x | z) = Delta(G(z) + z)",
    )
    return report(stop, f"laws multiply; `{stop.kind}` does not join them", *help)


def brackets_missing(stop: Stop) -> Report | None:
    """A name stands where a call must: `net G = mlp`, `KL(p || q)`."""
    if not {"(", "."} <= stop.expected <= {"(", ".", "*", "/"}:
        return None
    help = (
        "write what it takes: `mlp(128, 128)`, `linear()`" if stop.head == "net" else "write its variables: `q(x, z)`"
    )
    return report(stop, f"`{stop.before.text}` needs round brackets", help, span=stop.before)


def missing_equals(stop: Stop) -> Report | None:
    """`net G mlp(1)`, `with game minimax`; in brackets and options it is written without space."""
    if "=" not in stop.expected or stop.kind == "(" or not _starts_item(stop):
        return None
    option = bool(stop.open_brackets) or stop.head in ("minimize", "maximize")
    parts = {"let": "the name and its value", "net": "the net and its builder", "player": "the player and its members"}
    named = f"`{stop.before.text}` and its value" if option else parts.get(stop.head, "the law and what it is")
    return missing(stop, f"`=` is missing between {named}", "=" if option else " = ")


def missing_colon(stop: Stop) -> Report | None:
    """`var x real`, `{ y=1 data(x) }`; but `var x z: real` lacks a comma."""
    if ":" not in stop.expected or not _starts_item(stop):
        return None
    if "," in stop.expected and stop.source.text[stop.span.end :].lstrip()[:1] in (":", ","):
        return None
    what = "between a name and its space" if "," in stop.expected else "after the label's value"
    return missing(stop, f"`:` is missing {what}", ": ")


def missing_star(stop: Stop) -> Report | None:
    if "*" not in stop.expected or "," in stop.expected or not _starts_item(stop):
        return None
    help = "write `*`, or the sign that is meant:" if "+" in stop.expected else "write `*`:"
    return missing(stop, "`*` is missing between two factors", " * ", help)


def missing_comma(stop: Stop) -> Report | None:
    if "," not in stop.expected or not _starts_item(stop):
        return None
    before, word = stop.before.text, stop.span.text
    if "*" in stop.expected and stop.before.end == stop.span.start:
        return missing(
            stop, f"a sign is missing between `{before}` and `{word}`", "*", "write `*`, or the sign that is meant:"
        )
    help = "write `,`, or the sign that is meant:" if "*" in stop.expected else "write `,`:"
    return missing(stop, f"`,` is missing between `{before}` and `{word}`", ", ", help)


def missing_value(stop: Stop) -> Report | None:
    """Only an expression can hold a quoted text, and here it could start."""
    if "STRING" not in stop.expected:
        return None
    before = stop.before
    if before.text == "," and stop.kind in (*CLOSERS.values(), ","):
        line = replaced(before, "")
        return report(
            stop, "nothing stands behind this `,`", "write the value, or leave out the `,`:", line, span=before
        )
    message = f"a value is missing after `{before.text}`"
    help = "write a number, a name or a call"
    return report(stop, message, help, label="expected a value", span=word_or_gap(stop))


def missing_sign(stop: Stop) -> Report | None:
    if "+" in stop.expected and _starts_item(stop):
        return missing(stop, "a sign is missing between two terms", " + ", "write `+`, or the sign that is meant:")
    return None


def _starts_item(stop: Stop) -> bool:
    return stop.goes_on and stop.kind in ("NAME", "OLD", "INT", "NUMBER", "STRING", "SUM", "(", "[", "{", "max")


def misplaced_word(stop: Stop) -> Report | None:
    """A word that belongs to a statement of another kind."""
    if not stop.starts_statement:
        return None
    match stop.kind:
        case "over" | "with":
            help = (
                "write it behind the goal:",
                f"minimize KL(P || Q) {'over G, E' if stop.kind == 'over' else 'with game=minimax'}",
            )
            return report(stop, f"`{stop.kind}` belongs to a goal", *help)
        case "GLOBAL":
            return report(
                stop, "`global` belongs to `var`", "leave it out: a param is one value for the whole data set"
            )
        case "OLD":
            return report(stop, "`old` stands before a factor, not before a definition", "q(x, z) = q(z) * old q(x|z)")
        case "=":
            help = "if a new statement starts on this line, the one above is unfinished"
            return report(stop, "a second `=` in one statement", help)
        case _:
            return None


def stray_word(stop: Stop) -> Report | None:
    """A statement can end before it and none can start with it."""
    if not stop.starts_statement or stop.kind in (END, "NAME"):
        return None
    help = f"a statement starts with {listed(f'`{word}`' for word in STATEMENTS)}"
    return report(stop, f"`{stop.span.text}` starts no statement", f"{help},", "or is a law: q(x) = Normal(0, 1)")


BEFORE_SAMPLES: tuple[Finder, ...] = (
    foreign_sign,
    misspelt_statement,
)

FINDERS: tuple[Finder, ...] = (
    number_cut_at_dot,
    wrong_bracket,
    reserved_word,
    unclosed_bracket,
    misspelt_clause,
    comma_between_terms,
    needless_sign,
    semicolon_for_comma,
    list_in_round_brackets,
    weight_behind,
    sum_of_laws,
    brackets_missing,
    missing_equals,
    missing_colon,
    missing_star,
    missing_comma,
    missing_value,
    missing_sign,
    misplaced_word,
    stray_word,
)


def nested_too_deeply(span: Span, depth: int) -> Report:
    help = ("name a part with `let`, or give it a law of its own",)
    return Report("E-SYNTAX", f"brackets or signs nested more than {depth} deep", span, "one too many", help=help)
