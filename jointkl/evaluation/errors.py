"""Every mistake in what is asked of a trained program, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jointkl.diagnostics import DataError, did_you_mean


def nothing_to_sample(name: str, known: Iterable[str]) -> DataError:
    return DataError(
        f"{name} has no law that draws what its evidence gives, from noise alone",
        f"name another with --law; the spec defines {', '.join(known)}",
    )


def givens_unknown(text: str, names: Iterable[str]) -> DataError:
    return DataError(
        f"{text} is given {', '.join(names)}, which no evidence of the spec gives",
        "from Python, pass them: program.sample(law, batch={...})",
    )


def unknown_ending(path: Path) -> DataError:
    return DataError(f"{path}: no way to write samples as `{path.suffix}`", "end the name in .png, .npy or .npz")


# --- the report


def no_run(folder: Path, name: str) -> DataError:
    return DataError(
        f"{folder} is no run: it has no {name} of its own", "give the folder that `jointkl train` has made"
    )


def unreadable(path: Path, why: str) -> DataError:
    return DataError(f"{path} cannot be read: {why}", "a report needs the spec and the options as the run wrote them")


# --- metrics


def not_a_number(number: float) -> DataError:
    return DataError(f"a metric came out as {number}: what it was given cannot be judged by it")


def points_not_finite(count: int, total: int) -> DataError:
    return DataError(
        f"{count} of {total} points to judge are not finite", "the run may have diverged: see its metrics.jsonl"
    )


def too_few(found: int, needed: int, what: str) -> DataError:
    return DataError(
        f"{found} {'point' if found == 1 else 'points'} to judge, and at least {needed} are needed for {what}",
        "draw more with --samples, or give more rows with --data",
    )


def no_spread() -> DataError:
    return DataError("all data are one point: there is no distance to measure by", "give a bandwidth, or other data")


def no_width(std: float) -> DataError:
    return DataError(
        f"the modes have standard deviation {std:g}: nothing lies within 3 of them", "give the source std=0.01"
    )


def other_shape(data: tuple[int, ...], rebuilt: tuple[int, ...]) -> DataError:
    return DataError(f"data of shape {data} cannot be compared with {rebuilt}")


def no_density(bad: int, total: int) -> DataError:
    return DataError(
        f"{bad} of {total} data have no density under the law: its logarithm is not finite",
        "a law whose support is wider, or noise on the data, mends it",
    )


# --- networks that images are seen by


def features_failed(name: str, shape: tuple[int, ...] | None, error: BaseException) -> DataError:
    what = "cannot be made" if shape is None else f"fail on images of shape {shape}"
    return DataError(
        f"the features {name} {what}: {type(error).__name__}: {error}",
        "package.module:factory: factory() makes a callable from images (n, C, H, W) to features (n, d), or to a pair "
        "of features and logits",
    )


def features_shape(name: str, shape: tuple[int, ...], rows: int) -> DataError:
    return DataError(f"the features {name} give shape {shape} for {rows} images", f"the first number must be {rows}")


def features_not_allowed(name: str, module: str) -> DataError:
    return DataError(
        f"the features {name} are code of the module `{module}`, which may not be imported",
        f"importing a module runs it; if you trust it, add --allow-import {module}",
    )


def unknown_features(name: str, sources: Sequence[str]) -> DataError:
    known = ("inception", *sources)
    help = f"give one of {', '.join(known)}, or package.module:factory"
    return DataError(f"no features are called `{name}`", *did_you_mean(name, known), help)


def no_classes(source: str) -> DataError:
    return DataError(f"the source {source} has no images with classes to train a classifier on")


def no_extra() -> DataError:
    return DataError("features `inception` need packages that are not installed", "pip install 'jointkl[metrics]'")


def no_weights(path: str) -> DataError:
    return DataError(
        f"the weights of Inception, 91 MB, are not at {path}",
        "--download fetches them once, from the releases of torch-fidelity on GitHub",
    )


# --- which metrics apply


def unknown_metric(name: str, known: Iterable[str]) -> DataError:
    known = tuple(known)
    return DataError(f"no metric is called `{name}`", *did_you_mean(name, known), f"the metrics are {', '.join(known)}")


def inapplicable(metric: str, spec: str, reasons: Sequence[str]) -> DataError:
    return DataError(f"{metric} cannot be had of {spec}: {'; '.join(dict.fromkeys(reasons))}")


def nothing_applies(spec: str, failed: Mapping[str, str]) -> DataError:
    why = [f"{metric}: {reason}" for metric, reason in failed.items()]
    return DataError(f"no metric applies to {spec}", *why, "`jointkl eval --list` says what each needs")
