"""A program judged: which metrics apply to it, to which of its laws, and what they say."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from jointkl.diagnostics import DataError
from jointkl.evaluation import errors
from jointkl.evaluation.features import Features
from jointkl.evaluation.held_out import HeldOut, Origin, training_rows
from jointkl.evaluation.metric_inputs import Inapplicable, MetricInputs
from jointkl.evaluation.metrics.table import METRICS, Family, Metric
from jointkl.evaluation.metrics.value import Value
from jointkl.evaluation.subjects import Drawn, Subject, coded, dense, drawn, why_not_dense
from jointkl.program import Program
from jointkl.sources import Bound

SAMPLES, PARTICLES = 2500, 1000
"""Samples as in PacGAN's protocol; importance samples of each datum."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One metric of one law against one evidence. `reference` is its value where rows of training stand in the place of
    samples, or, of a density or a code, in the place of the rows judged by; None where there are none."""

    metric: str
    law: str
    evidence: str
    value: Value
    reference: float | None
    view: str = ""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was found, and what was left out though it applies, with the reason, by metric; `origins` and `rows`, where
    the rows judged by come from and how many there are, by evidence law."""

    judged: tuple[Judged, ...]
    failed: Mapping[str, str]
    origins: Mapping[str, Origin]
    rows: Mapping[str, int]
    samples: int
    particles: int
    seed: int


def judge(
    program: Program,
    data: Sequence[Bound],
    names: Collection[str] | None = None,
    *,
    samples: int = SAMPLES,
    particles: int = PARTICLES,
    seed: int = 0,
    features: Features | None = None,
    given: Collection[str] = (),
) -> dict[str, Value]:
    """Metrics of a program by name, against rows of its evidence, as `jointkl.sources.bind` gives them.

    `names`: of `METRICS`; by default all that apply. The key is the metric's name; `mmd of q(b|a)` where it applies to
    several laws, `mmd of q(x) against target(x)` where to several evidences. The same seed gives the same values, each
    whatever else is asked for; torch's random state, the networks' modes and gradients are left as they were, so that
    it may be called in the middle of a run. `given` as `evaluate` takes it. Raises `DataError` for a name that is
    unknown or does not apply.
    """
    rows = training_rows(data)
    found = evaluate(
        program, rows, names, samples=samples, particles=particles, seed=seed, features=features, given=given
    )
    return keyed(found)


def keyed(evaluation: Evaluation) -> dict[str, Value]:
    """The values by metric, with law and evidence named where a metric has several."""
    found: dict[str, Value] = {}
    for j in evaluation.judged:
        same = [other for other in evaluation.judged if other.metric == j.metric]
        key = j.metric
        if len(same) > 1:
            key += f" of {j.law}"
        if len([other for other in same if other.law == j.law]) > 1:
            key += f" against {j.evidence}"
        found[key] = j.value
    return found


def evaluate(
    program: Program,
    rows: HeldOut,
    names: Collection[str] | None = None,
    *,
    train: Sequence[Bound] = (),
    samples: int = SAMPLES,
    particles: int = PARTICLES,
    seed: int = 0,
    features: Features | None = None,
    given: Collection[str] = (),
) -> Evaluation:
    """Metrics of a program against held-out rows. `train`: the rows of training, if they can be had; `given`: the
    evidence laws whose rows are not those of their source in the spec, so that its modes and classes say nothing.

    Of the metrics named, one that does not apply, or fails, is a `DataError`; of all, those are left out.
    """
    chosen = _chosen(names)
    unseen = {law: origin.unseen for law, origin in rows.origins.items()}
    own = frozenset(law.key for law in program.model.evidence) - set(given)
    inputs = MetricInputs(program, rows.bound, train, unseen, own, samples, particles, seed, features)
    judged: list[Judged] = []
    failed: dict[str, str] = {}
    for family in dict.fromkeys(metric.family for metric in chosen):
        wanted = [metric for metric in chosen if metric.family is family]
        reasons: list[str] = []
        for subject in _subjects(program, family) or [None]:
            try:
                judged += _judged(inputs, family, wanted, subject)
            except Inapplicable as why:
                reasons.append(str(why))
            except DataError as error:
                if names is not None:
                    raise
                failed |= {metric.name: str(error).split("\n", 1)[0] for metric in wanted}
        missing = [metric for metric in wanted if metric.name not in {j.metric for j in judged}]
        if names is not None and missing:
            raise errors.inapplicable(missing[0].name, program.model.source.name, reasons)
    if not judged:
        raise errors.nothing_applies(program.model.source.name, failed)
    order = list(METRICS)
    return Evaluation(
        tuple(sorted(judged, key=lambda j: order.index(j.metric))),
        failed,
        rows.origins,
        {bound.law: len(bound) for bound in rows.bound},
        samples,
        particles,
        seed,
    )


def _chosen(names: Collection[str] | None) -> list[Metric]:
    if names is None:
        return list(METRICS.values())
    for name in names:
        if name not in METRICS:
            raise errors.unknown_metric(name, METRICS)
    return [metric for metric in METRICS.values() if metric.name in names]


def _subjects(program: Program, family: Family) -> Sequence[Subject]:
    match family.need:
        case "density":
            return dense(program)
        case "codes":
            return coded(program.derivation.facts)
        case _:
            return drawn(program.derivation.facts)


def _judged(inputs: MetricInputs, family: Family, wanted: Sequence[Metric], subject: Subject | None) -> list[Judged]:
    if subject is None:
        raise Inapplicable(_NOBODY[family.need](inputs.program) if family.need in _NOBODY else _NOTHING_DRAWN)
    given = inputs.given(family.need, subject)
    assert given is not None
    noise = {"generator": inputs.generator()} if family.drawn else {}
    values = family.function(**given, **noise)
    beside = inputs.given(family.need, subject, reference=True)
    noise = {"generator": inputs.generator()} if family.drawn else {}
    references = family.function(**beside, **noise) if beside is not None else {}
    view = (
        inputs.view(subject) if isinstance(subject, Drawn) and family.need in ("points", "features", "logits") else ""
    )
    return [
        Judged(
            metric.name,
            subject.text,
            subject.evidence,
            values[metric.name],
            references[metric.name].value if metric.name in references else None,
            view,
        )
        for metric in wanted
    ]


_NOTHING_DRAWN = "no law of the spec draws what its evidence gives, from noise or from other evidence"

_NOBODY = {
    "density": why_not_dense,
    "codes": lambda program: "no law encodes what evidence gives that another law decodes",
}
"""Why no law of a program is to be judged, by need."""
