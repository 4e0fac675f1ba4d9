"""What a classifier makes of samples: the inception score."""

from __future__ import annotations

import torch
from torch import Tensor

from jointkl.evaluation import errors
from jointkl.evaluation.metrics.intervals import bootstrap
from jointkl.evaluation.metrics.value import Value


def inception_score(samples: Tensor, *, generator: torch.Generator | None = None) -> Value:
    """exp of the mean KL(p(y|x) || p(y)) over samples, from a classifier's logits (n, K): between 1 and K.

    Salimans et al. 2016, section 4, with any classifier in the place of theirs, and all samples at once instead of
    their ten parts: p(y) is the mean of p(y|x) over the samples. That lets the plug-in estimator lie below the limit
    of many samples by a share of about (K - 1) / 2n. The interval is the bootstrap's percentiles over samples: it
    accounts for finite samples, not for the classifier. Raises `DataError` for fewer than 2 samples, or logits that
    are not finite.
    """
    if len(samples) < 2:
        raise errors.too_few(len(samples), 2, "the spread of the classes")
    logits = samples.detach().double().cpu()
    if not bool(logits.isfinite().all()):
        raise errors.points_not_finite(int((~logits.isfinite().all(1)).sum()), len(logits))
    log_p = logits.log_softmax(1)
    p = log_p.exp()
    negative_entropy = (p * log_p).sum(1)

    def score(weights: Tensor) -> Tensor:
        mean = weights @ p
        return (weights @ negative_entropy - torch.special.xlogy(mean, mean).sum(1)).exp()

    n = len(p)
    value = float(score(torch.full((1, n), 1 / n, dtype=torch.float64)))
    interval = bootstrap(score, n, generator)
    details = {"classes": p.shape[1], "classes_seen": len(p.argmax(1).unique())}
    return Value(value, interval, "bootstrap: finite samples, not the classifier", n, details=details)
