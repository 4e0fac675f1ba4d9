"""Every mistake in what is asked of an export, by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from jointkl.diagnostics import DataError, did_you_mean


def unknown_ending(path: Path, known: Iterable[str]) -> DataError:
    what = f"no format is called `{path.suffix}`" if path.suffix else "its name has no ending that names a format"
    return DataError(f"{path}: {what}", f"end the name in {' or '.join(known)}")


def unknown_noise(noise: str, known: Iterable[str]) -> DataError:
    return DataError(f"no noise `{noise}`", *did_you_mean(noise, known), f"give {' or '.join(known)}")


def all_evidence(text: str) -> DataError:
    return DataError(
        f"{text} is evidence alone: it draws nothing, there is no sampler of it",
        "name a law that draws, with --law; evidence that such a law needs becomes an input of the sampler",
    )


def untraceable(law: str, family: str, why: str) -> DataError:
    return DataError(f"{law} is a {family}, which cannot be exported: {why}", "`jointkl sample` draws it")


def no_draw_in_onnx(law: str, family: str) -> DataError:
    return DataError(
        f"{law} is a {family}, which is no simple function of noise, and ONNX has no operator that draws it",
        "end the name in .pt2: there torch's own generator draws it, inside the exported graph",
    )


def no_operator(text: str, operator: str) -> DataError:
    return DataError(
        f"{text} cannot be exported to ONNX: torch knows no translation of {operator}, which it needs",
        "end the name in .pt2",
    )


def noise_drawn_in_onnx() -> DataError:
    return DataError(
        "noise=drawn is for .pt2: what ONNX draws by itself follows no seed of its caller",
        "leave it out; the noise is then an input of the sampler",
    )


def extra_missing(package: str) -> DataError:
    return DataError(f"ONNX needs the package {package}, which is not installed", "pip install 'jointkl[onnx]'")


def not_exported(text: str, form: str, error: Exception, own: tuple[str, str] | None) -> DataError:
    """`own`: a net of the user's own class, if the spec has one, and where it failed, if it is known."""
    first = str(error).strip().split("\n", 1)[0]
    why = f"{text} cannot be exported to {form}: {type(error).__name__}: {first}"
    if own is None:
        return DataError(why, "please report it, with the spec")
    traceable = "torch.export must be able to trace it: no choice by a tensor's values, x.shape[0] in place of len(x)"
    return DataError(why, f"the class of net {own[0]} {own[1] or 'may be why'}; {traceable}")


def disagrees(text: str, form: str, output: str, rows: int) -> DataError:
    return DataError(
        f"the export of {text} to {form}, read back and run on {rows} rows, gives another {output} than the program",
        "nothing was written; please report it, with the spec",
    )
