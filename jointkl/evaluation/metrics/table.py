"""The metrics by name: what each says, which way is better, what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from jointkl.evaluation.metrics.critic import wasserstein
from jointkl.evaluation.metrics.frechet import frechet
from jointkl.evaluation.metrics.inception import inception_score
from jointkl.evaluation.metrics.likelihood import log_likelihood
from jointkl.evaluation.metrics.manifold import density_coverage, precision_recall
from jointkl.evaluation.metrics.mmd import mmd
from jointkl.evaluation.metrics.modes import mode_coverage
from jointkl.evaluation.metrics.reconstruction import reconstruction
from jointkl.evaluation.metrics.ssim import diversity
from jointkl.evaluation.metrics.two_sample import two_sample
from jointkl.evaluation.metrics.value import Value

Need = Literal["modes", "density", "codes", "points", "images", "features", "logits", "critic"]
"""What a function is given. `modes`: samples, modes, std. `density`: blocks, particles. `codes`: data, rebuilt.
`points`: samples and data, as many of each, as points. `images`: samples, as images. `features` of as many samples as
data. `logits` of samples. `critic`: samples, data, train_samples, train_data."""


@dataclass(frozen=True, slots=True)
class Family:
    """Metrics that are computed together. `function` takes what `need` says by name and gives its values by metric;
    `drawn`: it also takes a `generator`."""

    need: Need
    function: Callable[..., Mapping[str, Value]]
    drawn: bool = False


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    about: str
    better: Literal["higher", "lower", "nearer 0.5", "nearer 1"]
    family: Family

    @property
    def need(self) -> Need:
        return self.family.need


def _alone(name: str, need: Need, function: Callable[..., Value], drawn: bool = False) -> Family:
    return Family(need, lambda **given: {name: function(**given)}, drawn)


_MODES = Family("modes", mode_coverage)
_MANIFOLDS = Family("points", precision_recall)
_BALLS = Family("points", density_coverage)

METRICS: dict[str, Metric] = {
    row.name: row
    for row in (
        Metric("modes", "modes that hold a sample of high quality", "higher", _MODES),
        Metric("high_quality", "share of samples within 3 standard deviations of a mode", "higher", _MODES),
        Metric("reverse_kl", "KL of the samples' shares of the modes from equal shares, nats", "lower", _MODES),
        Metric(
            "log_likelihood",
            "mean log density of data, nats; importance-weighted where something is hidden",
            "higher",
            _alone("log_likelihood", "density", log_likelihood),
        ),
        Metric(
            "reconstruction",
            "mean squared error per number of data encoded and decoded",
            "lower",
            _alone("reconstruction", "codes", reconstruction),
        ),
        Metric("mmd", "squared maximum mean discrepancy, unbiased", "lower", _alone("mmd", "points", mmd)),
        Metric("precision", "share of samples that lie among data, k = 3", "higher", _MANIFOLDS),
        Metric("recall", "share of data that lie among samples, k = 3", "higher", _MANIFOLDS),
        Metric("density", "how densely data surround the samples, 1 if equal, k = 5", "nearer 1", _BALLS),
        Metric("coverage", "share of data with a sample among their 5 nearest", "higher", _BALLS),
        Metric(
            "two_sample",
            "accuracy of a nearest-neighbour classifier between samples and data",
            "nearer 0.5",
            _alone("two_sample", "points", two_sample, drawn=True),
        ),
        Metric(
            "wasserstein",
            "what a 1-Lipschitz critic, trained afresh, tells samples from unseen data by",
            "lower",
            _alone("wasserstein", "critic", wasserstein, drawn=True),
        ),
        Metric(
            "diversity",
            "1 - mean MS-SSIM of two samples, images",
            "higher",
            _alone("diversity", "images", diversity, drawn=True),
        ),
        Metric(
            "inception_score",
            "exp of the mean KL of a classifier's answer from its mean answer",
            "higher",
            _alone("inception_score", "logits", inception_score),
        ),
        Metric(
            "frechet",
            "Frechet distance of the features of images; FID if they are Inception's",
            "lower",
            _alone("frechet", "features", frechet, drawn=True),
        ),
    )
}
