"""Sources: what a law of evidence is bound to, and evidence that nothing is bound to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from jointkl.diagnostics import Refused
from jointkl.semantics import constants, errors, law_errors
from jointkl.semantics.catalogue import SOURCES, Column, Open, OptionValue, SourceRow
from jointkl.semantics.model import Evidence, Law, base, law_key, law_text
from jointkl.semantics.scope import Scope
from jointkl.semantics.spaces import Space, contains, fits
from jointkl.syntax import nodes


def evidence(scope: Scope, call: nodes.Call, law: nodes.Law) -> Evidence:
    """A source bound to the outputs of `law`, by position."""
    row = SOURCES[call.name.text]
    names = tuple(n.text for n in law.outputs)
    if law.givens:
        written = law_text(law.label.text, (*names, *(n.text for n in law.givens)), ())
        raise Refused(errors.source_with_givens(law.givens[0].span, row.name, written))
    options = constants.options(scope, row.name, row.options, _named(row, call))
    if row.takes and row.takes not in dict(options):
        given = ", ".join(['"faces/"', *(a.span.text for a in call.arguments)])
        raise Refused(errors.option_missing(call.span, row.name, row.takes, f"{law.span.text} = {row.name}({given})"))
    if row.columns is not None:
        _verify_columns(scope, call, law, row, dict(options))
    return Evidence(row.name, options, tuple(range(len(names))), law_key(law.label.text, names, ()))


def _named(row: SourceRow, call: nodes.Call) -> tuple[nodes.Expr | nodes.Keyword, ...]:
    """The arguments, the first by the name of what the source takes."""
    first, *others = call.arguments or (None,)
    if not row.takes or first is None or isinstance(first, nodes.Keyword):
        return call.arguments
    return (nodes.Keyword(nodes.Name(row.takes, span=first.span), first, span=first.span), *others)


def _verify_columns(
    scope: Scope, call: nodes.Call, law: nodes.Law, row: SourceRow, options: Mapping[str, OptionValue]
) -> None:
    columns = row.columns(options) if row.columns is not None else ()
    if len(law.outputs) > len(columns):
        extra = law.outputs[len(columns)]
        raise Refused(errors.too_many_columns(extra.span, row.name, columns, len(law.outputs)))
    for place, (name, column) in enumerate(zip(law.outputs, columns, strict=False)):
        variable = scope.variable(name)
        if _goes_into(column, variable.space):
            continue
        help = f"declare var {variable.name}: {column.example if isinstance(column, Open) else column}"
        for option, value, written in _others(variable.space):
            if option in options or option not in [o.name for o in row.options] or row.columns is None:
                continue
            if _goes_into(row.columns({**options, option: value})[place], variable.space):
                given = ", ".join([*(a.span.text for a in call.arguments), f"{option}={written}"])
                help = f"{law.span.text} = {row.name}({given})"
        raise Refused(errors.column_space(call.span, row.name, column, name.text, variable.space, variable.span, help))


def _goes_into(column: Column, space: Space) -> bool:
    """Can a variable of a space be bound to a column? Equal sizes are reshaped."""
    if isinstance(column, Open):
        return contains(space, column.kind)
    return fits(space, column) and space.size == column.size


def _others(space: Space) -> Iterator[tuple[str, OptionValue, str]]:
    """Options that make other columns of a source, with the value that may be meant and how it is written."""
    yield "threshold", 0.5, "0.5"
    yield "grey", True, "true"
    if len(space.dims) == 3:
        _, height, width = space.dims
        yield "size", (height, width), f"{height}" if height == width else f"[{height}, {width}]"


def unbound(scope: Scope, statements: tuple[nodes.Statement, ...], laws: dict[str, Law]) -> None:
    """Adds each `data(..)` that no source is bound to: a marginal of one that is, or supplied at run time.

    The widest stand first, so that `data(t)` finds `data(x, t)`.
    """
    calls = [c for c in _calls(statements) if c.name.text == "data" and not c.givens]
    for call in sorted(calls, key=lambda c: (-len(c.arguments), c.span.start)):
        outputs = tuple(base(a.text) for a in call.arguments if isinstance(a, nodes.Name))
        key = law_key("data", outputs, ())
        known = all(v in scope.variables for v in outputs) and len(outputs) == len(call.arguments) > 0
        if key in scope.definitions or key in laws or not known or len(set(outputs)) < len(outputs):
            continue
        wholes = (law for law in laws.values() if law.label == "data" and isinstance(law.body, Evidence))
        whole = next((law for law in wholes if set(outputs) <= set(law.outputs)), None)
        if whole is not None and isinstance(whole.body, Evidence):
            places = tuple(whole.body.columns[whole.outputs.index(v)] for v in outputs)
            laws[key] = Law("data", outputs, (), replace(whole.body, columns=places), span=call.span)
        else:
            if shared := next((v for v in outputs if scope.variables[v].is_global), None):
                scope.spoil(key, law_errors.global_evidence(call.span, shared, scope.variables[shared].span))
                continue
            columns = tuple(range(len(outputs)))
            laws[key] = Law("data", outputs, (), Evidence("evidence", (), columns, key), span=call.span)


def _calls(statements: tuple[nodes.Statement, ...]) -> Iterator[nodes.Call]:
    """Every application of a law in the joints and goals of a spec."""
    pending: list[nodes.Product | nodes.Mixture | nodes.Bare | nodes.Objective] = []
    for node in statements:
        match node:
            case nodes.Definition(body=body):
                pending.append(body)
            case nodes.Goal(objective=objective):
                pending.append(objective)
            case _:
                pass
    while pending:
        match pending.pop():
            case nodes.Product(factors=factors):
                yield from (f.call for f in factors)
            case nodes.Mixture(branches=branches):
                pending += [b.product for b in branches]
            case nodes.Divergence(left=left, right=right):
                pending += [left, right]
            case nodes.Hinge(sum=part) | nodes.Scaled(part=part):
                pending.append(part)
            case nodes.Sum(terms=terms):
                pending += [part for _, part in terms]
            case nodes.Bare() | nodes.Weight():
                pass
