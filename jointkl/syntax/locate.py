"""From lark's exception to the mistake: the `Stop` it means, and the sample of `SAMPLES` that stops lark so too."""

# lark's types are partly unknown
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import cache

from lark import Lark, Token, UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from lark.lexer import PatternStr
from lark.parsers.lalr_interactive_parser import InteractiveParser

from jointkl.diagnostics import Report, Source, Span
from jointkl.syntax.characters import unexpected_character
from jointkl.syntax.mistakes import explain
from jointkl.syntax.samples import SAMPLES, Sample
from jointkl.syntax.stop import END, STATEMENTS, Stop, first_word

Key = tuple[int | str, frozenset[str], str]


def report(grammar: Lark, source: Source, found: UnexpectedInput) -> Report:
    stop = _stop(grammar, source, found)
    if isinstance(found, UnexpectedCharacters):
        return unexpected_character(stop)
    if word := stop.astray():
        stop = _stop_astray(grammar, word) or stop
    known = _known(grammar)
    return explain(stop, next((known[key] for key in (*_keys(stop), _key_of_any(stop)) if key in known), None))


def _stop(grammar: Lark, source: Source, found: UnexpectedInput) -> Stop:
    match found:
        case UnexpectedToken(token=token) if token.type != "$END":
            start = token.start_pos or 0
            return _stop_at(grammar, Span(source, start, start + len(token)), _kinds(grammar)[token.type])
        case UnexpectedToken():
            return _stop_at(grammar, Span(source, len(source.text), len(source.text)), END)
        case _:
            start = found.pos_in_stream or 0
            return _stop_at(grammar, Span(source, start, start + 1), "")


def _stop_at(grammar: Lark, span: Span, kind: str) -> Stop:
    """What could stand at `span` is asked of a parser that has read up to it, and reduced nothing on its account."""
    parser = grammar.parse_interactive(span.source.text)
    with suppress(UnexpectedInput):
        for token in parser.lexer_thread.lex(parser.parser_state):
            if (token.start_pos or 0) >= span.start:
                break
            parser.feed_token(token)
    expected = frozenset(_kinds(grammar)[name] for name in parser.accepts())
    return Stop(span, kind, expected, parser.parser_state.position, _opening(span.source, parser))


def _stop_astray(grammar: Lark, word: Span) -> Stop | None:
    """The stop at a word that begins no statement, unless nothing but a statement could stand there."""
    stop = _stop_at(grammar, word, "NAME")
    expected = stop.expected - {*STATEMENTS, "DIRECTION", "NAME", END}
    return replace(stop, expected=expected) if expected else None


def _opening(source: Source, parser: InteractiveParser) -> Span | None:
    """The first word of the statement being read: the lowest on lark's stack but for the finished statements."""
    for value in parser.parser_state.value_stack:
        if isinstance(value, Token):
            return first_word(source, value.start_pos or 0)
        if not value.data.startswith("_"):
            return first_word(source, value.meta.start_pos)
    return None


@cache
def _kinds(grammar: Lark) -> dict[str, str]:
    """What a `Stop` calls each terminal: a fixed one as it is written."""
    fixed = {t.name: t.pattern.value for t in grammar.terminals if isinstance(t.pattern, PatternStr)}
    return {t.name: t.name for t in grammar.terminals} | fixed | {"$END": END}


@cache
def _known(grammar: Lark) -> dict[Key, Sample]:
    """Where each sample's texts stop; the first sample of those that stop alike."""
    known: dict[Key, Sample] = {}
    for sample in SAMPLES:
        for text in sample.texts:
            try:
                grammar.parse(text)
            except UnexpectedInput as found:
                stop = _stop(grammar, Source("sample", text), found)
                for key in [_key_of_any(stop)] if sample.whatever else _keys(stop):
                    known.setdefault(key, sample)
    return known


def _keys(stop: Stop) -> tuple[Key, Key]:
    """The same word at the same state; the same word in such a statement, where the same could follow."""
    head = stop.head.replace("maximize", "minimize") if stop.head in STATEMENTS else ""
    return (stop.state, stop.expected, stop.kind), (head, stop.expected, stop.kind)


def _key_of_any(stop: Stop) -> Key:
    """Any word at the same state."""
    return stop.state, stop.expected, ""
