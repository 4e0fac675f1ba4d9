"""What is not written, by name, its place first."""

from __future__ import annotations

from jointkl.diagnostics import Report, Span


def import_not_allowed(span: Span, net: str, module: str) -> Report:
    return Report(
        "E-IMPORT",
        f"the net `{net}` is code of the module `{module}`, which may not be imported",
        span,
        "names code to run",
        notes=("importing a module runs it: do so only if you trust it",),
        help=("to allow it, add to the command", f"--allow-import {module}", f'allow_imports=("{module}",) in Python'),
    )
