"""Characters and signs that the language lacks, and what to type instead."""

from __future__ import annotations

import re
import unicodedata

from jointkl.diagnostics import Report, Span
from jointkl.syntax.stop import Stop
from jointkl.syntax.wording import rather, report

FOREIGN: dict[str, tuple[str, str | None]] = {
    "==": ("`=` stands once:", " = "),
    ":=": ("`=` stands alone:", " = "),
    "...": ("two dots stand between the ends:", ".."),
    "**": ("there is no power; write the product `x * x`", None),
    "//": ("a comment starts with `#`:", " # "),
    "/*": ("a comment starts with `#` and ends with its line:", " # "),
}
"""Signs of other languages: what to say, what to write."""

CHARACTERS: dict[str, str] = {
    **dict.fromkeys("\u2225\u2016", "||"),
    **dict.fromkeys("\u2223\uff5c", "|"),
    **dict.fromkeys("\u2032\u2018\u2019\u02b9`\u00b4", "'"),
    **dict.fromkeys("\u2033", "''"),
    **dict.fromkeys("\u201c\u201d\u201e", '"'),
    **dict.fromkeys("\u00d7\u00b7\u2219\u22c5\u2217\u2715", "*"),
    **dict.fromkeys("\u2010\u2011\u2013\u2014\u2212", "-"),
    **dict.fromkeys("\u00f7\u2215", "/"),
    **dict.fromkeys("\u2208", ":"),
    **dict.fromkeys("~\u223c\u2254\u2261\u2190", "="),
    **dict.fromkeys("\u2026", ".."),
    **dict.fromkeys("\ufeff\u200b\u200c\u200d\u2060", ""),
    **dict.fromkeys("\u00a0\u2028\u2029\u0085\v", " "),
}
"""What to type instead of a character that the language lacks; `typed` knows more."""


def typed(character: str) -> str | None:
    """What to type instead: for a Greek letter its name, for an accented one the letter, for a wide one the plain."""
    if character in CHARACTERS or character.isascii():
        return CHARACTERS.get(character)
    letter = re.match(r"GREEK (SMALL|CAPITAL) LETTER (?:FINAL )?(\w+)$", unicodedata.name(character, ""))
    if letter:
        name = letter[2].replace("LAMDA", "LAMBDA")
        return name.lower() if letter[1] == "SMALL" else name.capitalize()
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain if plain.isalnum() or plain in ("(", ")", "[", "]", "{", "}", "=", ",", ":", ";") else None


def unexpected_character(stop: Stop) -> Report:
    """`stop.span` is one character."""
    match stop.span.text:
        case '"':
            end = (stop.source.text + "\n").index("\n", stop.span.start)
            span = Span(stop.source, stop.span.start, end)
            return report(
                stop, "a quoted text has no end", 'close it with `"`', label='no `"` follows on this line', span=span
            )
        case "'":
            return report(
                stop, "a text stands between double quotes", 'write `"` on both sides', label="a single quote"
            )
        case "^":
            return report(stop, "there is no power", "write the product `x * x`", label="`^` has no meaning")
        case character if character.isascii() and character.isdecimal():
            span = run(stop.span, r"[\w.]+")
            return report(stop, f"`{span.text}` is not a number", "write it as 3, 0.5 or 1e-3", span=span)
        case character if character.isascii() and character.isalpha():
            return reserved(stop, run(stop.span, r"\w+"))
        case _:
            return _foreign_character(stop)


def run(span: Span, pattern: str) -> Span:
    """What `pattern` matches from the start of `span`; `span` if nothing."""
    found = re.compile(pattern, re.ASCII).match(span.source.text, span.start)
    return Span(span.source, span.start, found.end() if found else span.end)


def _foreign_character(stop: Stop) -> Report:
    character = stop.span.text
    shown = f"`{character}`" if character.isprintable() else "this invisible character"
    if not (character.isascii() and character.isprintable()):
        shown += f" (U+{ord(character):04X}, {unicodedata.name(character, 'unnamed').lower()})"
    new = typed(character)
    if new is None:
        help = "a name is made of a-z, A-Z, 0-9 and _" if character.isalnum() else "leave it out"
        return report(stop, f"{shown} is not of the language", help)
    code, mark, comment = stop.line.partition("#")
    line = "".join(c if c.isascii() and c != character else typed(c) or "" for c in code) + mark + comment
    write = f"type `{new}`:" if new.strip() else "type a space:" if new else "leave it out:"
    return report(stop, f"{shown} is not of the language", write, line.strip())


def reserved(stop: Stop, word: Span) -> Report:
    """`word` is of `RESERVED`, and stands where a name could or nothing can."""
    message = f"`{word.text}` is a reserved word"
    if "NAME" not in stop.expected or (stop.starts_statement and stop.same_line):
        return report(stop, message, "leave it out", label="it has no use here", span=word)
    if "STRING" in stop.expected and stop.source.text.startswith("(", word.end):
        use = "it stands in a goal: max(0, m - KL(P || Q))" if word.text == "max" else "leave it out"
        return report(stop, message, use, label="no function of an expression", span=word)
    return rather(stop, message, word, f"{word.text}_", "take another name:", label="not a name")
