"""Networks as layers: what a builder makes of its widths and of the sizes around it. Arithmetic, without torch.

`plan` is the one place that knows how a network is built; the emitted classes are written from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from jointkl.diagnostics import Refused
from jointkl.semantics import net_errors
from jointkl.semantics.catalogue import BUILDERS, OptionValue
from jointkl.semantics.model import Net
from jointkl.semantics.spaces import Space

Options = Mapping[str, OptionValue | None]
Shape = tuple[int, ...]

# --- layers


@dataclass(frozen=True, slots=True)
class Linear:
    inputs: int
    outputs: int
    bias: bool = True
    spectral: bool = False

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs


@dataclass(frozen=True, slots=True)
class Conv:
    """From H x W to `shrunk` of both: padded by half a kernel, so that a stride of 1 keeps an odd kernel's size."""

    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    spectral: bool = False

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs * self.kernel**2


@dataclass(frozen=True, slots=True)
class Deconv:
    """The way back of a `Conv`; `extra` rows and columns at the end give exactly the size that it started from."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    extra: tuple[int, int]
    spectral: bool = False

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs * self.kernel**2


@dataclass(frozen=True, slots=True)
class Norm:
    """`kind` is batch or layer, over `size` numbers, or channels where it stands between `maps`."""

    kind: str
    size: int
    maps: bool


@dataclass(frozen=True, slots=True)
class Activation:
    name: str


@dataclass(frozen=True, slots=True)
class Dropout:
    share: float


@dataclass(frozen=True, slots=True)
class Flatten:
    """Channels, rows and columns to one vector."""


@dataclass(frozen=True, slots=True)
class Unflatten:
    shape: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Residual:
    """shortcut(h) + layers(h); without a shortcut h itself."""

    layers: tuple[Layer, ...]
    shortcut: Linear | Conv | None


@dataclass(frozen=True, slots=True)
class Own:
    """The class that the spec names, applied to (N, *inputs), giving (N, *outputs)."""

    inputs: Shape
    outputs: Shape


Layer = Linear | Conv | Deconv | Norm | Activation | Dropout | Flatten | Unflatten | Residual | Own


@dataclass(frozen=True, slots=True)
class Plan:
    """The layers of a network.

    `image` is the place of the input that keeps its shape, if one does, and `layers` are applied to it; all others
    are side by side: what `layers` are applied to where there is no image, else what joins its `features` before
    `head`. `maps`: the last layer gives an image, whose channels are those of all heads.
    """

    layers: tuple[Layer, ...]
    head: tuple[Layer, ...] = ()
    image: int | None = None
    features: int = 0
    maps: bool = False


def plan(net: Net) -> Plan:
    """The layers of a network with its sizes. Raises `Refused` where its builder cannot make it."""
    return PLANS[net.builder](net, options(net))


def options(net: Net) -> Options:
    """The options of a network's builder, those left out at their default."""
    return {o.name: o.default for o in BUILDERS[net.builder].options} | dict(net.options)


def largest(layers: tuple[Layer, ...]) -> int:
    """The weights of the layer that has most."""
    found = 0
    for layer in layers:
        match layer:
            case Linear() | Conv() | Deconv():
                found = max(found, layer.weights)
            case Residual(layers=inner, shortcut=shortcut):
                found = max(found, largest((*inner, *(() if shortcut is None else (shortcut,)))))
            case Norm() | Activation() | Dropout() | Flatten() | Unflatten() | Own():
                pass
    return found


# --- what the whole batch decides


def takes_batch_statistics(net: Net) -> bool:
    return options(net).get("norm") == "batch"


def is_rowwise(net: Net) -> bool:
    """Does one application to two batches, one behind the other, give what two applications do, and leave as much?

    Batch statistics are other ones then, a spectral norm takes one step of its power iteration in each application, and
    of a class of the user's own nothing is known.
    """
    return net.builder != "python" and options(net).get("norm") not in ("batch", "spectral")


def is_function(net: Net) -> bool:
    """Does an application to the same values give the same, and leave nothing behind? Not so with dropout."""
    return is_rowwise(net) and not options(net).get("dropout")


# --- builders


def _mlp(net: Net, o: Options) -> Plan:
    return Plan(_stack(o, (_width(net), *net.widths, net.outputs)))


def _linear(net: Net, o: Options) -> Plan:
    return Plan((Linear(_width(net), net.outputs, bool(o["bias"]), _spectral(o)),))


def _conv(net: Net, o: Options) -> Plan:
    image = _image(net)
    if image is None:
        raise Refused(net_errors.no_image(net.built, net.name, net.builder, net.inputs))
    kernel, stride = _number(o, "kernel"), _number(o, "stride")
    c, *size = net.inputs[image].shape
    layers: list[Layer] = []
    for i, width in enumerate(net.widths):
        smaller = [shrunk(n, kernel, stride) for n in size]
        if min(smaller) < 1:
            raise Refused(net_errors.map_vanishes(net.built, net.name, i + 1, size, kernel, stride))
        layers += (Conv(c, width, kernel, stride, _spectral(o)), *_between(o, width, maps=True))
        c, size = width, smaller
    return _headed(net, o, image, layers, c * math.prod(size))


def _deconv(net: Net, o: Options) -> Plan:
    if not gives_maps(net):
        spaces = tuple(h.space for h in net.heads)
        raise Refused(net_errors.no_image_output(net.built, net.name, spaces))
    kernel, stride = _number(o, "kernel"), _number(o, "stride")
    _, *size = net.heads[0].space.shape
    sizes = [size]
    for i in range(len(net.widths)):
        sizes.append([shrunk(n, kernel, stride) for n in sizes[-1]])
        if min(sizes[-1]) < 1:
            raise Refused(net_errors.too_many_maps(net.built, net.name, size, i, kernel, stride))
    sizes.reverse()
    channels = (*net.widths, _channels(net))
    height, width = sizes[0]
    start = Linear(_width(net), channels[0] * height * width, spectral=_spectral(o))
    layers: list[Layer] = [start, Unflatten((channels[0], height, width))]
    for (a, b), (small, large) in zip(pairwise(channels), pairwise(sizes), strict=True):
        rows, columns = (n - grown(m, kernel, stride) for m, n in zip(small, large, strict=True))
        layers += (*_between(o, a, maps=True), Deconv(a, b, kernel, stride, (rows, columns), _spectral(o)))
    return Plan(tuple(layers), maps=True)


def _resnet(net: Net, o: Options) -> Plan:
    """Pre-activated blocks (He et al. 2016, Identity Mappings): h + W2 act(W1 act(h)), the first of a width strided."""
    image, spectral = _image(net), _spectral(o)
    maps = image is not None

    def layer(a: int, b: int, kernel: int = 3, stride: int = 1) -> Linear | Conv:
        return Conv(a, b, kernel, stride, spectral) if maps else Linear(a, b, spectral=spectral)

    start, *size = net.inputs[image].shape if image is not None else (_width(net),)
    last = net.widths[0]
    layers: list[Layer] = [layer(start, last)]
    for width in net.widths:
        for i in range(_number(o, "blocks")):
            stride = _number(o, "stride") if maps and i == 0 else 1
            before, middle = (_between(o, n, maps=maps) for n in (last, width))
            inner = (*before, layer(last, width, stride=stride), *middle, layer(width, width))
            same = last == width and stride == 1
            layers.append(Residual(inner, None if same else layer(last, width, 1, stride)))
            last, size = width, [shrunk(n, 3, stride) for n in size]
    layers += _between(o, last, maps=maps)
    if image is not None:
        return _headed(net, o, image, layers, last * math.prod(size))
    return Plan((*layers, *_stack(o, (last, *_hidden(o), net.outputs))))


def _python(net: Net, o: Options) -> Plan:
    image = _image(net) if len(net.inputs) == 1 else None
    inputs = net.inputs[0].shape if image is not None else (_width(net),)
    maps = gives_maps(net)
    outputs = (_channels(net), *net.heads[0].space.shape[1:]) if maps else (net.outputs,)
    return Plan((Own(inputs, outputs),), image=image, maps=maps)


PLANS: Mapping[str, Callable[[Net, Options], Plan]] = {
    "mlp": _mlp,
    "linear": _linear,
    "conv": _conv,
    "deconv": _deconv,
    "resnet": _resnet,
    "python": _python,
}


# --- pieces


def _between(o: Options, size: int, *, maps: bool) -> tuple[Layer, ...]:
    """What stands between two layers: norm, activation, dropout."""
    norm, dropout = o["norm"], o["dropout"]
    return (
        *((Norm(str(norm), size, maps),) if norm in ("batch", "layer") else ()),
        Activation(str(o["activation"])),
        *((Dropout(float(dropout)),) if isinstance(dropout, int | float) and dropout else ()),
    )


def _stack(o: Options, sizes: Shape) -> tuple[Layer, ...]:
    """Linear layers from size to size, the last one plain."""
    *hidden, last = pairwise(sizes)
    found: list[Layer] = []
    for a, b in hidden:
        found += (Linear(a, b, spectral=_spectral(o)), *_between(o, b, maps=False))
    return (*found, Linear(*last, spectral=_spectral(o)))


def _headed(net: Net, o: Options, image: int, layers: list[Layer], features: int) -> Plan:
    """Behind an image's features: linear to the outputs, the further inputs joined before it."""
    further = sum(s.width for i, s in enumerate(net.inputs) if i != image)
    if further and not _hidden(o):
        others = tuple(s for i, s in enumerate(net.inputs) if i != image)
        raise Refused(net_errors.needs_hidden(net.built, net.name, others))
    head = _stack(o, (features + further, *_hidden(o), net.outputs))
    if further:
        return Plan((*layers, Flatten()), head, image, features)
    return Plan((*layers, Flatten(), *head), image=image)


def _hidden(o: Options) -> Shape:
    hidden = o["hidden"]
    return (hidden,) if isinstance(hidden, int) else ()


def _spectral(o: Options) -> bool:
    return o["norm"] == "spectral"


def _number(o: Options, name: str) -> int:
    found = o[name]
    assert isinstance(found, int)
    return found


# --- sizes


def shrunk(size: int, kernel: int, stride: int) -> int:
    """Rows that a convolution leaves of `size`, padded by `padding` on both sides; less than 1 where it has none."""
    return (size + 2 * padding(kernel) - kernel) // stride + 1


def grown(size: int, kernel: int, stride: int) -> int:
    """The least number of rows of which a convolution leaves `size`: what a transposed one makes of them."""
    return (size - 1) * stride + kernel - 2 * padding(kernel)


def padding(kernel: int) -> int:
    return (kernel - 1) // 2


def is_image(space: Space) -> bool:
    """Channels, rows and columns of plain numbers."""
    return len(space.shape) == 3 and space.kind not in ("simplex", "cholesky")


def gives_maps(net: Net) -> bool:
    """Are all heads images, of one height and width?"""
    sizes = {h.space.shape[1:] if is_image(h.space) else None for h in net.heads}
    return len(sizes) == 1 and None not in sizes


def _channels(net: Net) -> int:
    return sum(h.space.shape[0] for h in net.heads)


def _width(net: Net) -> int:
    return sum(s.width for s in net.inputs)


def _image(net: Net) -> int | None:
    """The place of the one image among the inputs. Two are refused: which keeps its shape?"""
    found = [i for i, s in enumerate(net.inputs) if is_image(s)]
    if len(found) > 1:
        raise Refused(net_errors.two_images(net.built, net.name, net.builder, net.inputs))
    return found[0] if found else None
