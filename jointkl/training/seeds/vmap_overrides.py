"""Functions of torch that `torch.func.vmap` cannot map over replicas, done beneath it on the whole stack instead.

`vmap` has one generator for all that it maps over, and supports neither leaves, gradients nor hooks inside the mapped
function. Here each replica draws from its own random numbers, in the order in which it would draw alone. The rest acts
on the stack, whose slices do not interact: the gradient of the sum of their scores is in each slice that slice's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CellType, FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap
from torch.overrides import TorchFunctionMode

Arguments = Sequence[Any]
Options = Mapping[str, Any]


class Streams:
    """The random numbers of the replicas: for each, the states of torch's generators as in a run of its own."""

    def __init__(self, device: torch.device) -> None:
        self._generators = [torch.default_generator]
        if device.type == "cuda":
            torch.cuda.init()
            self._generators.append(torch.cuda.default_generators[device.index or 0])
        self._states: list[list[Tensor]] = []

    def append(self) -> None:
        """Add a replica, which starts from the present state of the generators."""
        self._states.append([g.get_state() for g in self._generators])

    def each(self) -> Iterator[int]:
        """The number of each replica in turn, with its states in the generators until the next one is asked for."""
        for i, states in enumerate(self._states):
            for generator, state in zip(self._generators, states, strict=True):
                generator.set_state(state)
            yield i
            self._states[i] = [g.get_state() for g in self._generators]

    @property
    def states(self) -> list[list[Tensor]]:
        """The states of each replica; setting them goes back to where they were taken."""
        return list(self._states)

    @states.setter
    def states(self, states: list[list[Tensor]]) -> None:
        self._states = list(states)


class Overriding(TorchFunctionMode):
    """Entered inside `vmap`: replaces the functions of `OVERRIDES`, and leaves all others as they are.

    `place` is anything that `vmap` maps over here; through it, a function without tensors is mapped too.
    """

    def __init__(self, streams: Streams, place: Tensor) -> None:
        super().__init__()
        self.streams = streams
        self.place = place

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        row = OVERRIDES.get(func)
        return func(*args, **(kwargs or {})) if row is None else row(self, func, args, kwargs or {})

    def beneath(self, compute: Callable[..., Any], *tensors: Tensor) -> Any:
        """`compute` of the stacks, (R, ..), of tensors; a tensor that is the same for all is expanded. It gives a stack
        or a tuple of stacks. Autograd sees what it does."""
        return Beneath.apply(compute, self.place, *tensors)


class Beneath(torch.autograd.Function):
    """Leads from inside `vmap` to what it maps over."""

    @staticmethod
    def forward(compute: Any, place: Tensor, *tensors: Tensor) -> Any:
        raise AssertionError("outside of vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        compute, _, *tensors = args
        stacks = (_stack(t, dim, info.batch_size) for t, dim in zip(tensors, in_dims[2:], strict=True))
        found = compute(*stacks)
        return found, (0,) * len(found) if isinstance(found, tuple) else 0


def _stack(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    if dim is None:
        return tensor.expand(size, *tensor.shape)
    return tensor.movedim(dim, 0) if dim else tensor  # itself: a view of it would be another leaf


# --- random numbers


def draw(apart: Overriding, func: Any, args: Arguments, options: Options) -> Any:
    """A new draw, each replica's own."""

    def compute(*stacks: Tensor) -> Tensor:
        return torch.stack([func(*_of(i, args, stacks), **options) for i in apart.streams.each()])

    return apart.beneath(compute, *(a for a in args if isinstance(a, Tensor)))


def _of(i: int, args: Arguments, stacks: Sequence[Tensor]) -> list[Any]:
    """The arguments of replica `i`."""
    left = iter(stacks)
    return [next(left)[i] if isinstance(a, Tensor) else a for a in args]


def fill(apart: Overriding, func: Any, args: Arguments, options: Options) -> Any:
    """A draw into a tensor. A tensor that is the same for all cannot hold it: only the result does, and the tensor
    itself is filled with NaN, so that reading it does not go unnoticed."""
    tensor, *others = args

    def compute(stack: Tensor) -> Tensor:
        spread = len(stack) > 1 and stack.stride(0) == 0
        filled = stack.clone() if spread else stack
        for i in apart.streams.each():
            func(filled[i], *others, **options)
        if spread:
            stack[0].fill_(math.nan)
        return filled

    return apart.beneath(compute, tensor)


# --- gradients


def asked(apart: Overriding, func: Any, args: Arguments, options: Options) -> Any:
    """Whether a tensor carries a gradient: its stack does."""
    found: list[bool] = []

    def compute(stack: Tensor) -> Tensor:
        found.append(func(stack))
        return stack

    apart.beneath(compute, args[0])
    return found[0]


def whole(apart: Overriding, func: Any, args: Arguments, options: Options) -> Any:
    """What changes a tensor, done to its stack; the other arguments are numbers."""
    return apart.beneath(lambda stack: func(stack, *args[1:], **options), args[0])


def slope(apart: Overriding, func: Any, args: Arguments, options: Options) -> Any:
    """The gradient of scores in leaves."""
    scores, leaves = args

    def compute(*stacks: Tensor) -> Any:
        total = torch.stack([stack.sum() for stack in stacks[: len(scores)]]).sum()
        return func(total, stacks[len(scores) :], **options)

    return apart.beneath(compute, *scores, *leaves)


def hook(apart: Overriding, func: Any, args: Arguments, options: Options) -> Any:
    """A hook runs in the backward pass, when `vmap` is over, so it is mapped there again, with what it closes over."""
    tensor, function = args
    cells = [cell.cell_contents for cell in function.__closure__ or ()]

    def compute(stack: Tensor, *held: Tensor) -> Tensor:
        def mapped(gradient: Tensor) -> Any:
            return vmap(lambda g, *own: _holding(function, _filled(cells, own))(g))(gradient, *held)

        func(stack, mapped)
        return stack

    return apart.beneath(compute, tensor, *(c for c in cells if isinstance(c, Tensor)))


def _filled(values: Sequence[Any], tensors: Sequence[Tensor]) -> list[Any]:
    left = iter(tensors)
    return [next(left) if isinstance(v, Tensor) else v for v in values]


def _holding(function: Any, values: Sequence[Any]) -> Any:
    """The function with these values in its closure."""
    cells = tuple(map(CellType, values))
    return FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)


def normalised(apart: Overriding, func: Any, args: Arguments, options: Options) -> Any:
    """Writes to `out` by a copy: spectral norm keeps its vectors that way."""
    out = options["out"]
    found = func(*args, **{**options, "out": None})
    return found if out is None else out.copy_(found)


def linear(apart: Overriding, func: Any, args: Arguments, options: Options) -> Any:
    """As it is by itself; vmap's own way copies what it multiplied to add the bias."""
    x, weight, *others = args
    bias = others[0] if others else options.get("bias")
    found = torch.matmul(x, weight.mT)
    return found if bias is None else found.add_(bias)


Row = Callable[[Overriding, Any, Arguments, Options], Any]

DRAWS = (
    torch.randn, torch.rand, torch.randint, torch.randperm, torch.randn_like, torch.rand_like, torch.normal,
    torch.bernoulli, torch.multinomial, torch.poisson, torch.binomial, torch._standard_gamma,  # pyright: ignore[reportPrivateImportUsage]
    Tensor.bernoulli, Tensor.multinomial,
    F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, F.rrelu,
    F.gumbel_softmax,
)  # fmt: skip
FILLS = (Tensor.normal_, Tensor.uniform_, Tensor.exponential_, Tensor.cauchy_, Tensor.log_normal_)

OVERRIDES: Mapping[Any, Row] = {
    **dict.fromkeys(DRAWS, draw),
    **dict.fromkeys(FILLS, fill),
    Tensor.requires_grad.__get__: asked,  # pyright: ignore[reportAttributeAccessIssue]
    Tensor.requires_grad_: whole,
    Tensor.clamp_: whole,  # vmap would go through it one by one
    Tensor.register_hook: hook,
    torch.autograd.grad: slope,
    F.normalize: normalised,
    F.linear: linear,
}
"""What replaces each function. `vmap` itself refuses a function that draws and has no row."""
