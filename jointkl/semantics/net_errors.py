"""Mistakes in how a network is built: what its builder takes, and sizes that it cannot make. One constructor each."""

from __future__ import annotations

from collections.abc import Sequence

from jointkl.diagnostics import Report, Span
from jointkl.semantics.spaces import Space
from jointkl.semantics.wording import line, words

IMAGE = "its channels, rows and columns, as in unit[1,28,28]"


def needs_widths(span: Span, builder: str) -> Report:
    return Report(
        "E-VALUE",
        f"`{builder}` needs the width of one layer at least",
        span,
        "no widths",
        help=(f"{builder}(32, 64): the channels, or numbers, behind each step",),
    )


def no_image(span: Span, net: str, builder: str, inputs: Sequence[Space]) -> Report:
    return Report(
        "E-NET",
        f"`{builder}` takes an image, and the net `{net}` is applied to none",
        span,
        f"applied to {words(inputs)}",
        help=("mlp(256) takes anything", f"or declare an image by {IMAGE}"),
    )


def two_images(span: Span, net: str, builder: str, inputs: Sequence[Space]) -> Report:
    return Report(
        "E-NET",
        f"`{builder}` takes one image, and the net `{net}` is applied to several",
        span,
        f"applied to {words(inputs)}",
        help=("map each by a net of its own and join what they give: D(T(x), S(t))", "or mlp(256), which flattens all"),
    )


def needs_hidden(span: Span, net: str, others: Sequence[Space]) -> Report:
    return Report(
        "E-NET",
        f"the net `{net}` joins {words(others)} behind an image's features, with one linear layer to come",
        span,
        "no hidden layer",
        notes=("a sum of what each input says alone cannot tell which of them belong together",),
        help=(f"add a layer: {line(span.text)[:-1]}, hidden=128)",),
    )


def map_vanishes(span: Span, net: str, layer: int, size: Sequence[int], kernel: int, stride: int) -> Report:
    found = " x ".join(map(str, size))
    return Report(
        "E-NET",
        f"nothing is left of the image behind layer {layer} of the net `{net}`",
        span,
        f"there it is {found}, with kernel={kernel}, stride={stride}",
        help=("leave out a width, or take a smaller stride or kernel",),
    )


def no_image_output(span: Span, net: str, spaces: Sequence[Space]) -> Report:
    return Report(
        "E-NET",
        f"`deconv` gives an image, and the net `{net}` must give another shape",
        span,
        f"it must give {words(spaces)}",
        help=("mlp(256) gives any shape", f"or declare an image by {IMAGE}"),
    )


def too_many_maps(span: Span, net: str, size: Sequence[int], most: int, kernel: int, stride: int) -> Report:
    found = " x ".join(map(str, size))
    help = f"give {most} width{'s'[: most != 1]} at most, or" if most else "take"
    return Report(
        "E-NET",
        f"the image that the net `{net}` gives is too small for so many widths",
        span,
        f"{found}, with kernel={kernel}, stride={stride}",
        help=(f"{help} a smaller stride or kernel",),
    )


def batch_of_one(span: Span, net: str, cause: Span) -> Report:
    return Report(
        "E-NET",
        f"the net `{net}` takes statistics of a batch, and is applied to what has none",
        span,
        "one value for all data",
        ((cause, "norm=batch"),),
        help=("norm=layer",),
    )


def batch_in_penalty(span: Span, net: str, cause: Span) -> Report:
    return Report(
        "E-NET",
        f"R1 is the gradient of each datum's logit, and the net `{net}` takes statistics of the whole batch",
        span,
        "one datum's logit depends on all",
        ((cause, "norm=batch"),),
        help=("norm=layer, or norm=spectral",),
    )


# --- classes of the user's own


def needs_class(span: Span) -> Report:
    return Report(
        "E-VALUE",
        "`python` needs the class of the net",
        span,
        help=('python("package.module:Class", hidden=64)',),
    )


def bad_class(span: Span, text: str) -> Report:
    return Report(
        "E-VALUE",
        f"`{line(text, 60)}` names no class",
        span,
        'not of the form "package.module:Class"',
        help=("write names of Python alone, without leading underscores", 'python("package.module:Class", hidden=64)'),
    )


def class_alone(span: Span) -> Report:
    return Report(
        "E-VALUE",
        "what a class is made with is given by name",
        span,
        "no name",
        help=('python("package.module:Class", hidden=64)',),
    )


def bad_option_name(span: Span, name: str) -> Report:
    return Report(
        "E-OPTION", f"`{name}` is no name that Python takes", span, help=("rename this option of your class",)
    )


def bad_option_value(span: Span) -> Report:
    return Report(
        "E-OPTION",
        "this cannot be handed to a class",
        span,
        help=("give a number, a list of numbers, a text in quotes, true or false",),
    )
