"""One run by several processes: each takes its share of every batch, and gradients are averaged over all.

The batch of a round is the same in every process, and so is the noise: it is drawn for the whole batch from one state
of torch's generators, and each process keeps its part. What a batch cannot give to a loss (a discrete draw, dropout)
each process draws for itself. A mean over the batch is then the mean of the processes' means, and torch's
DistributedDataParallel takes that of the gradients; what is no mean over the batch is made of such means, `batchwide`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.parallel import DistributedDataParallel

from jointkl.emission.losses import draws
from jointkl.emission.statements import printed
from jointkl.objective import ir
from jointkl.objective.walk import needed
from jointkl.program import Program
from jointkl.sources import Bound
from jointkl.training.distributed import errors
from jointkl.training.folder.tensors import digest, packed
from jointkl.training.minibatches import WITHOUT_EVIDENCE, Feed, Minibatches
from jointkl.training.plan import Plan
from jointkl.training.speed.autotune import buffers_kept
from jointkl.training.steps import PhaseStepper, Play, play, play_together

Batch = Mapping[str, Tensor]


# --- data


class SharedMinibatches(Minibatches):
    """This process's part of the batches that one process would take. Where a loss reads further rows beside each
    datum, these are the whole batch moved on, not this part of it. `given`: what the losses read of a batch."""

    def __init__(self, plan: Plan, given: Iterable[ir.Given]) -> None:
        self._size = size = plan.batch // plan.group.size
        self.part = slice(plan.group.rank * size, (plan.group.rank + 1) * size)
        self._shifted = tuple(dict.fromkeys((g.key, g.column, g.shift) for g in given if g.shift))
        self._places = {bound.law: self._shifts(bound) for bound in plan.bound}
        self.feeds = tuple(
            Feed(bound, plan.batch, plan.seed, plan.device, partial(self._dealt, self._places[bound.law]))
            for bound in plan.bound
        )
        self._empty = {WITHOUT_EVIDENCE: torch.empty(size, 0, device=plan.device)}

    def _shifts(self, bound: Bound) -> tuple[int, ...]:
        """The shifts that rows of an evidence law are read at: its own first."""
        return (0, *sorted({shift for _, column, shift in self._shifted if column in bound.keys}))

    def _dealt(self, shifts: Sequence[int], rows: Tensor) -> Tensor:
        """Of the numbers of a batch's rows those of this part, at each shift."""
        return torch.cat([rows.roll(shift)[self.part] for shift in shifts])

    def first(self) -> dict[str, Tensor]:
        return self._parts(super().first())

    def draw(self) -> dict[str, Tensor]:
        return self._parts(super().draw())

    def _parts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        found = {key: rows[: self._size] for key, rows in batch.items()}
        for feed in self.feeds:
            for place, at in enumerate(self._places[feed.law]):
                rows = slice(place * self._size, (place + 1) * self._size)
                own = [(key, column) for key, column, shift in self._shifted if shift == at]
                found |= {key: batch[column][rows] for key, column in own if column in feed.keys}
        return found


def minibatches_for(plan: Plan, program: Program) -> Minibatches:
    """The batches of a run, or this process's part of each."""
    if plan.group.size == 1:
        return Minibatches(plan.bound, plan.batch, plan.seed, plan.device)
    nodes = [node for loss in _losses(program.objective) for node in loss.nodes]
    return SharedMinibatches(plan, [node for node in nodes if isinstance(node, ir.Given)])


def _losses(objective: ir.Objective) -> list[ir.Loss]:
    return [*objective.losses, *([objective.together] if objective.together else [])]


# --- noise


def drawing(program: Program, loss: ir.Loss) -> Callable[[int], dict[str, Tensor]]:
    """The draws of a loss that a batch may give, for a number of data: by key, made as the loss makes them, in its
    order."""
    namespace = dict(_names(program))
    source = "\n".join(printed(draws(program.objective, loss), ""))
    exec(compile(source, f"<draws of {loss.player}>", "exec"), namespace)
    return partial(namespace["draws"], program.emitted)


def part_of_draws(program: Program, loss: ir.Loss, size: int, part: slice) -> Callable[[], dict[str, Tensor]]:
    """What a loss draws for a batch of `size`: this process's part of it, and all of what is drawn for a global."""
    nodes = [node for i in needed(loss) if isinstance(node := loss.nodes[i], ir.Draw) and node.given]
    for key, count in Counter(node.key for node in nodes).items():
        if count > 1:
            raise errors.two_draws(key, loss.player)
    places = {node.key: tuple(part if dim == ir.DATA else slice(None) for dim in node.dims) for node in nodes}
    draw = drawing(program, loss)
    return lambda: {key: value[places[key]] for key, value in draw(size).items()}


@contextmanager
def own_random_numbers(rank: int, device: torch.device) -> Iterator[None]:
    """Random numbers of this process alone. Afterwards the shared ones go on as they would in every process."""
    seed = int(torch.randint(1 << 62, ()))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed + rank)
        yield


# --- losses


class LocalLoss(nn.Module):
    """A loss of this process's part of the batch, over the parameters that it trains and no others: as such,
    DistributedDataParallel averages their gradients and leaves all others alone. `drawing_apart`: the context in which
    it makes draws of its own."""

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        loss: Callable[[Batch], Any],
        draw: Callable[[], Batch],
    ) -> None:
        super().__init__()
        self.trained = nn.ParameterList(parameters)
        self.loss, self.draw = loss, draw
        self.drawing_apart: Callable[[], AbstractContextManager[None]] = nullcontext

    def forward(self, batch: Batch) -> Any:
        given = {**batch, **self.draw()}
        with self.drawing_apart():
            return self.loss(given)


def parallel_play(plan: Plan, program: Program, steppers: Sequence[PhaseStepper], batches: SharedMinibatches) -> Play:
    """How the processes play a round: each phase's loss and step become those of all. They start from the parameters
    of the first. Raises `DataError` for what they cannot share."""
    _verify_statistics(plan, program)
    nn.SyncBatchNorm.convert_sync_batchnorm(program.emitted)
    for value in program.emitted.state_dict().values():
        dist.broadcast(value, 0)
    stepping = [stepper for stepper in steppers if stepper.whole is None]
    for stepper in steppers:
        stepper.mean = plan.group.mean
        if stepper.whole is not None:
            stepper.solve = partial(_solved, stepper, stepper.solve)
    at_once = program.objective.together if plan.updates == "simultaneous" else None
    if at_once is not None:
        parameters = [p for stepper in stepping for p in stepper.parameters]
        return partial(play_together, losses=_averaged(plan, program, batches, at_once, program.losses, parameters))
    losses = {loss.player: loss for loss in program.objective.losses}
    for stepper in stepping:
        loss = losses[stepper.phase.player]
        stepper.loss = _averaged(plan, program, batches, loss, stepper.loss, stepper.parameters)
    return play_together if plan.updates == "simultaneous" else play


def _averaged(
    plan: Plan,
    program: Program,
    batches: SharedMinibatches,
    loss: ir.Loss,
    compute: Callable[[Batch], Any],
    parameters: Sequence[nn.Parameter],
) -> nn.Module:
    """A loss whose gradients are averaged over the processes. Which parameters it reaches is the same in every step,
    but where code of the user's own decides: there torch looks each time."""
    part = LocalLoss(parameters, compute, part_of_draws(program, loss, plan.batch, batches.part))
    reached, draws_alone = _tried_once(plan, program, part, batches.first())
    if draws_alone:
        part.drawing_apart = partial(own_random_numbers, plan.group.rank, plan.device)
    if not reached:
        return part
    own = any(net.target for net in program.model.nets.values())
    if not own:
        part.trained = nn.ParameterList(reached)
    return DistributedDataParallel(part, find_unused_parameters=own, gradient_as_bucket_view=True)


def _tried_once(plan: Plan, program: Program, part: LocalLoss, batch: Batch) -> tuple[list[nn.Parameter], bool]:
    """Which parameters a loss reaches, and whether it draws what no batch can give. Nothing moves on. Raises
    `DataError` for a module of the user's own that the processes cannot share."""
    device = program.emitted.anchor.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), buffers_kept(program):
        given = {**batch, **part.draw()}
        before = _random(device)
        found = part.loss(given)
        drawn = not all(map(torch.equal, before, _random(device)))
        _verify_own(plan, program)
    losses = [loss for loss in (found.values() if isinstance(found, dict) else [found]) if loss.requires_grad]
    parameters = list(part.trained)
    gradients = torch.autograd.grad(losses, parameters, allow_unused=True) if losses else [None] * len(parameters)
    return [p for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None], drawn


def _random(device: torch.device) -> list[Tensor]:
    """The states of the generators that a loss may draw from."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _solved(stepper: PhaseStepper, solve: Callable[[Batch], Any], rows: Batch) -> None:
    """A closed step on the whole evidence: every process takes it, and of the last bit the first one's counts."""
    solve(rows)
    for parameter in stepper.parameters:
        dist.broadcast(parameter.data, 0)


def _verify_statistics(plan: Plan, program: Program) -> None:
    """Processes share the statistics of batch norm on GPUs alone."""
    for name, net in program.nets.items():
        if plan.device.type != "cuda" and any(isinstance(layer, BatchNorm) for layer in net.modules()):
            raise errors.batch_statistics(name, plan.group.size)


def _verify_own(plan: Plan, program: Program) -> None:
    """What a module of the user's own keeps in its buffers is the same after the first batch, of which each process had
    its part."""
    own = [(name, net) for name, net in program.nets.items() if program.model.nets[name].target]
    kept = [(name, at, digest(packed({at: b}))) for name, net in own for at, b in net.named_buffers()]
    if not kept:
        return
    for found in zip(*plan.group.gathered(kept), strict=True):
        if len(set(found)) > 1:
            name, buffer, _ = found[0]
            raise errors.own_statistics(name, buffer, plan.group.size)


# --- what is no mean over the batch


def average(mean: Tensor) -> Tensor:
    """The mean of the processes' means. Its gradient here is that of this process's own mean: averaged with the
    others', it is that of the whole."""
    whole = mean.detach().clone()
    dist.all_reduce(whole)
    return mean + (whole / dist.get_world_size() - mean.detach())


def hinge(mean: Tensor) -> Tensor:
    """max(0, mean over the batch)."""
    return F.relu(average(mean))


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Variance and mean over the batch. The variance's derivative in the mean is 0."""
    mean = average(x.mean(0))
    return average((x - mean.detach()).square().mean(0)), mean


def advantage(cost: Tensor) -> Tensor:
    """Each cost less the mean of the others in the batch; one alone as it is."""
    n = cost.shape[-1] * dist.get_world_size()
    return cost if n == 1 else (cost - average(cost.mean(-1, keepdim=True))) * (n / (n - 1))


FUNCTIONS: Mapping[str, Callable[..., Any]] = {"hinge": hinge, "moments": moments, "advantage": advantage}
"""Functions of emitted modules over a batch, as they are over the whole batch of several processes."""


@contextmanager
def batchwide(plan: Plan, program: Program) -> Iterator[None]:
    """While the processes train, whatever is no mean over the batch is computed over the whole of it: such functions,
    and N where no data give it."""
    if plan.group.size == 1:
        yield
        return
    names, sizes = _names(program), program.data_sizes
    own = {name: names[name] for name in FUNCTIONS if name in names}
    names.update({name: FUNCTIONS[name] for name in own})
    program.data_sizes = {law: size or plan.batch for law, size in sizes.items()}
    try:
        yield
    finally:
        names.update(own)
        program.data_sizes = sizes


def _names(program: Program) -> dict[str, Any]:
    """The names of the emitted module."""
    made: Any = type(program.emitted)
    return made.__init__.__globals__
