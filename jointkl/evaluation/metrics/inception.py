"""What a classifier makes of samples: the inception score."""

from __future__ import annotations

import math

from torch import Tensor

from jointkl.evaluation import errors
from jointkl.evaluation.metrics.intervals import around
from jointkl.evaluation.metrics.value import Value


def inception_score(samples: Tensor) -> Value:
    """exp of the mean KL(p(y|x) || p(y)) over samples, from a classifier's logits (n, K): between 1 and K.

    Salimans et al. 2016, section 4, with any classifier in the place of theirs, and all samples at once instead of
    their ten parts: p(y) is the mean of p(y|x) over the samples. That lets the plug-in estimator lie below the limit
    of many samples by a share of about sum_y var(p(y|x)) / 2 n p(y), up to (K - 1) / 2n (Miller 1955). The interval is
    that of the logarithm, normal by the delta method, with the variance over samples of KL(p(y|x) || p(y)), about the
    value plus that share; it accounts for finite samples, not for the classifier. Raises `DataError` for fewer than 2
    samples, or logits that are not finite.
    """
    if len(samples) < 2:
        raise errors.too_few(len(samples), 2, "the spread of the classes")
    logits = samples.detach().double().cpu()
    if not bool(logits.isfinite().all()):
        raise errors.points_not_finite(int((~logits.isfinite().all(1)).sum()), len(logits))
    log_p = logits.log_softmax(1)
    p = log_p.exp()
    n, classes = p.shape
    mean = p.mean(0)
    seen = mean > 0  # of the others each p is 0 too, to the last bit
    each = (p * (log_p - mean.log()))[:, seen].sum(1)
    score = float(each.mean())
    bias = float((p.var(0) / mean)[seen].sum()) / (2 * n)
    low, high = (min(max(math.exp(end), 1.0), float(classes)) for end in around(score + bias, float(each.var()) / n))
    accounts = "normal for the logarithm, delta method: finite samples, not the classifier"
    details = {"classes": classes, "classes_seen": len(p.argmax(1).unique())}
    return Value(math.exp(score), (low, high), accounts, n, details=details)
