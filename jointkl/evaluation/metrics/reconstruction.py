"""The error of data encoded and decoded."""

from __future__ import annotations

from torch import Tensor

from jointkl.evaluation import errors
from jointkl.evaluation.metrics.intervals import of_mean, wilson
from jointkl.evaluation.metrics.value import Value


def reconstruction(data: Tensor, rebuilt: Tensor) -> Value:
    """The mean squared error per number of data (n, *shape) and what came of encoding and decoding each; of classes,
    (n,) integers, the share that came out another.

    Mean over data of |x - x'|^2 / d; the interval is normal (of classes Wilson's) and accounts for finite data and
    for the noise of the encoder. Detail `of_mean`: the error of giving every datum their mean, thus their variance.
    Raises `DataError` where shapes differ or a number is not finite.
    """
    if data.shape != rebuilt.shape or not len(data):
        raise errors.other_shape(tuple(data.shape), tuple(rebuilt.shape))
    if not data.is_floating_point():
        wrong = int((data != rebuilt).sum())
        return Value(wrong / len(data), wilson(wrong, len(data)), "Wilson's: finite data", data=len(data))
    x, y = (values.double().reshape(len(values), -1) for values in (data, rebuilt.to(data.device)))
    each = (x - y).square().mean(1)
    spread = float((x - x.mean(0)).square().mean())
    accounts = "normal: finite data, noise of the encoder"
    return Value(float(each.mean()), of_mean(each), accounts, data=len(x), details={"of_mean": spread})
