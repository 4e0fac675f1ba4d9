"""Metrics as functions of tensors: each one's docstring gives its source, its estimator and its interval.

    from jointkl.evaluation.metrics import mmd
    mmd(samples, data).value

`METRICS` is the table that `jointkl eval` goes by; which of them a program can be judged by, `jointkl.evaluation.judge`
finds out.
"""

from jointkl.evaluation.metrics.critic import wasserstein
from jointkl.evaluation.metrics.frechet import between, fitted, frechet, gaussian
from jointkl.evaluation.metrics.inception import inception_score
from jointkl.evaluation.metrics.likelihood import log_likelihood
from jointkl.evaluation.metrics.manifold import density_coverage, precision_recall
from jointkl.evaluation.metrics.mmd import mmd
from jointkl.evaluation.metrics.modes import mode_coverage
from jointkl.evaluation.metrics.reconstruction import reconstruction
from jointkl.evaluation.metrics.ssim import diversity, ms_ssim
from jointkl.evaluation.metrics.table import METRICS, Metric
from jointkl.evaluation.metrics.two_sample import two_sample
from jointkl.evaluation.metrics.value import Value

__all__ = [
    "METRICS",
    "Metric",
    "Value",
    "between",
    "density_coverage",
    "diversity",
    "fitted",
    "frechet",
    "gaussian",
    "inception_score",
    "log_likelihood",
    "mmd",
    "mode_coverage",
    "ms_ssim",
    "precision_recall",
    "reconstruction",
    "two_sample",
    "wasserstein",
]
