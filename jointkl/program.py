"""The emitted module as a `torch.nn.Module`: what is trained is what is printed."""

from __future__ import annotations

import importlib
import linecache
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from jointkl.density import Densities, Estimate, finite_mean, law_at, rows, verify_globals, verify_one_law
from jointkl.derivation.derive import Derivation
from jointkl.derivation.resolve import Query, normal, resolve
from jointkl.derivation.shifts import keys
from jointkl.diagnostics import DataError, did_you_mean, printable
from jointkl.objective.in_turn import turns
from jointkl.objective.ir import Objective
from jointkl.semantics.layers import Own, plan
from jointkl.semantics.model import Evidence, Factor, Model, Net


class PoorEstimate(UserWarning):
    """A density was estimated by draws of which few count."""


class Program(nn.Module):
    """The networks and parameters of a spec, its losses, laws and Pyro programs.

    `source` is the text of the emitted module; it is that module's class that computes everything here.
    """

    def __init__(self, derivation: Derivation, objective: Objective, source: str) -> None:
        super().__init__()
        self.derivation = derivation
        self.objective = objective
        self.source = source
        self.emitted: Any = self._load()
        self._losses: dict[str, Callable[[Mapping[str, Tensor]], Tensor]] = {
            player: getattr(self.emitted, method) for player, method in self.emitted.losses.items()
        }
        self._turns = turns(objective.in_turn) if objective.in_turn is not None else ()

    def _load(self) -> nn.Module:
        """The emitted class, made. What classes of the user's own do wrong is a `DataError`."""
        own = {member: net for member, net in self.model.nets.items() if net.target and net.heads}
        for net in own.values():
            _verify_class(net)
        module = load_module(self.source, self.model.source.name)
        try:
            made = module.Program()
        except Exception as error:
            if not own:
                raise
            raise own_failed(", ".join(own), "cannot be made", error) from error
        for name, net in own.items():
            _verify_maps(net, getattr(made, made.nets[name]).layers)
        return made

    @property
    def model(self) -> Model:
        return self.derivation.model

    @property
    def data_sizes(self) -> dict[str, int | None]:
        """N of each source, by its evidence law: how many data a batch is drawn from, which is what a term of globals
        alone is divided by. Empty for a spec without globals; `"rows"` stands for the data of one without evidence.

        None, as at first, takes each batch for the whole data. Setting it sets those of all sources, None where the
        new sizes lack one; raises `KeyError` for an unknown source. A loss or Pyro program whose joint takes data from
        several sources raises `ValueError` unless they have the same size.
        """
        return dict(getattr(self.emitted, "data_sizes", {}))

    @data_sizes.setter
    def data_sizes(self, sizes: Mapping[str, int | None]) -> None:
        known = getattr(self.emitted, "data_sizes", None)
        if known is None:
            return
        for law in sizes:
            self._known(law, known, "source")
        self.emitted.data_sizes = {law: sizes.get(law) for law in known}

    @property
    def data_size(self) -> int | None:
        """The one size of all sources, as in `data_sizes`; setting it sets them all.

        Raises `DataError` where they differ.
        """
        sizes = self.data_sizes
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{law}: {size}" for law, size in sizes.items())
            raise DataError(f"the sources have different sizes: {told}", "ask for data_sizes")
        return next(iter(sizes.values()), None)

    @data_size.setter
    def data_size(self, size: int | None) -> None:
        self.data_sizes = dict.fromkeys(self.data_sizes, size)

    @property
    def players(self) -> tuple[str, ...]:
        """Who is optimised, in order of declaration."""
        return tuple(self.emitted.players)

    @property
    def nets(self) -> dict[str, nn.Module]:
        """The networks by their names in the spec."""
        return {name: getattr(self.emitted, member) for name, member in self.emitted.nets.items()}

    @property
    def params(self) -> dict[str, Tensor]:
        """The params by their names in the spec, each in its space."""
        return {name: getattr(self.emitted, member) for name, member in self.emitted.params.items()}

    def parameters_of(self, player: str) -> list[nn.Parameter]:
        """The parameters that `player` trains. Raises `KeyError` for an unknown player.

        Those of a module of the user's own that ask for no gradient are not among them.
        """
        members = self.emitted.players[self._known(player, self.players, "player")]
        own = {name: p for name, p in self.emitted.named_parameters() if p.requires_grad}
        return [p for m in members for name, p in own.items() if name.split(".")[0] in (m, f"{m}_raw")]

    def loss(self, player: str, batch: Mapping[str, Tensor]) -> Tensor:
        """A player's loss on a batch: a 0-d tensor, differentiable.

        `batch`: `"x"` a variable's values, (N, *shape), for evidence and for roots without parameters; `"z.noise"` the
        standard noise of a reparameterised draw. What is given replaces a draw. Raises `KeyError` for evidence that
        the batch lacks, `ValueError` for one with too few rows for the independent draws that stand side by side (of
        evidence `"x"` the second is `"x'"`, given or the rows of the first moved on), `DataError` where a class of the
        user's own fails.
        """
        if player in self.emitted.solutions and player not in self._losses:
            raise ValueError(f"{player} has no loss: it is solved, by `solve`")
        compute = self._losses[self._known(player, self._losses, "player")]
        try:
            return compute(batch)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self._explain(player, batch, error)

    def _explain(self, player: str, batch: Mapping[str, Tensor], error: Exception) -> NoReturn:
        """Raise what failed in a loss: code of the user's own, a batch that lacks something, or the error itself."""
        if place := own_place(self.model, error):
            raise own_failed(*place, error) from error
        if isinstance(error, KeyError):
            needs = f"the loss of {player} needs {error} in its batch, which holds {sorted(batch)}"
            raise KeyError(needs) from None
        raise error

    def in_turn(self, batch: Mapping[str, Tensor]) -> Iterator[Tensor]:
        """Every player's loss, 0-d tensors, in the order of the phases, each at the parameters as they are when it is
        asked for: what several players make of the data stands once. Of each the gradient is taken for that player's
        parameters alone, before the next is asked for. What is raised is as for `loss`.

        Only where `objective.in_turn` is not None.
        """
        losses = self.emitted.in_turn(batch)
        for player in self._turns:
            try:
                loss = next(losses)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                self._explain(player, batch, error)
            yield loss

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Every player's loss at the same parameters, 0-d tensors by player, if the program was compiled for
        `train(updates=simultaneous)` and they can be one, else None. The gradient of their sum is each player's own.
        """
        return self.emitted.together(batch) if self.objective.together is not None else None

    def snapshot(self) -> None:
        """Renew the old copies. Nothing to do where the objective keeps none."""
        if self.objective.old_nets or self.objective.old_params:
            self.emitted.snapshot()

    def solve(self, player: str, batch: Mapping[str, Tensor]) -> Any:
        """The closed-form step of a player, on the whole evidence.

        For a Free law its probabilities, (N, K), at the parameters as they are (the E step). For params that have their
        weighted maximum likelihood in closed form it sets them, and returns their values by name (the M step).

        Raises `ValueError` for a player that is trained by gradients, `KeyError` for evidence that the batch lacks.
        """
        self._known(player, self.players, "player")
        if player in self.emitted.solutions:
            try:
                return getattr(self.emitted, self.emitted.solutions[player])(batch)
            except KeyError as missing:
                raise KeyError(f"solving {player} needs {missing} in its batch, which holds {sorted(batch)}") from None
        raise ValueError(f"{player} has no closed-form step: it is trained by its loss")

    # --- laws and joints

    def pyro(self, name: str) -> Callable[..., Any]:
        """The Pyro program of a joint (`"q(x, z)"`), of a mixture's branch (`"q(x, y=1)"`) or of a law (`"q(x|z)"`).

        It takes its givens; then the evidence among its variables, required where a joint itself draws them from
        data, else observed if given; a law its own variable to observe. `size` is the number of data where nothing
        given tells. Sites are named as the variables, in a plate named `data`, globals outside it; what was drawn is
        returned by variable.
        """
        key = normal(name)
        key = key if key in self.emitted.programs else key.replace("'", "")  # a law is known without primes
        if key in self.emitted.programs:
            return getattr(self.emitted, self.emitted.programs[key])
        if key in self.model.laws:
            raise DataError(f"no Pyro program `{name}`", UNWRITTEN)
        known = tuple(self.emitted.programs)
        raise DataError(f"no Pyro program `{name}`", *(did_you_mean(key, known) or (f"known: {', '.join(known)}",)))

    @torch.no_grad()
    def sample(
        self,
        name: str,
        size: int = 1,
        batch: Mapping[str, Tensor] | None = None,
        *,
        held: Mapping[str, Tensor] | None = None,
        means: Collection[str] = (),
    ) -> dict[str, Tensor]:
        """Ancestral samples of any law or joint that can be drawn: variable -> (size, *shape).

        `batch` gives evidence and givens by variable; `size` is then its length. Variables on the way that are `held`
        have these values, (size, *shape), and of `means` each has its law's mean for a draw, if that is finite. A
        global is one value for all of a call, drawn or given, of its own shape alone. Networks are in evaluation mode.
        Raises `DataError`.
        """
        with evaluating(self):
            return self._sample(name, size, batch, held or {}, means)

    def _sample(
        self,
        name: str,
        size: int,
        batch: Mapping[str, Tensor] | None,
        held: Mapping[str, Tensor],
        means: Collection[str],
    ) -> dict[str, Tensor]:
        query = resolve(self.derivation.facts, name)
        values = dict(batch or {})
        verify_globals(self.model, {**values, **held})
        n = rows(self.model, values, size)
        once: dict[tuple[object, ...], Tensor] = {}
        drawn = [self._draw(query, path, values, n, held, means, once) for _, path in query.branches]
        if len(drawn) == 1:
            return {v: drawn[0][v] for v in query.head}
        weights = torch.tensor([float(w) for w, _ in query.branches])
        which = torch.multinomial(weights, n, replacement=True).to(self.emitted.anchor.device)
        chosen: dict[str, Tensor] = {}
        for v in query.head:
            if query.label and v == query.label[0]:
                places = [self.model.space(v).values.index(k) for k in query.label[1]]
                chosen[v] = torch.tensor(places, device=which.device)[which]
            elif self.model.variable(v).is_global:
                verify_one_law(query, v)
                chosen[v] = drawn[0][v]
            else:
                stacked = torch.stack([d[v] for d in drawn])
                chosen[v] = stacked[which, torch.arange(n, device=which.device)]
        return chosen

    def _draw(
        self,
        query: Query,
        path: tuple[Factor, ...],
        values: Mapping[str, Tensor],
        n: int,
        held: Mapping[str, Tensor],
        means: Collection[str],
        once: dict[tuple[object, ...], Tensor],
    ) -> dict[str, Tensor]:
        """One path's variables. `once` holds what laws of globals have drawn, by the law and what it was given."""
        drawn = {v: values[v] for v in query.givens if v in values}
        missing = [v for v in query.givens if v not in values]
        if missing:
            raise DataError(f"{query.text} is given {', '.join(missing)}: pass it in `batch`")
        for f in path:
            law = self.model.laws[f.law]
            if isinstance(law.body, Evidence):
                drawn |= self._evidence(query, f, values)
                continue
            v = f.outputs[0]
            if v in held:
                drawn[v] = held[v]
                continue
            shared = self.model.variable(v).is_global
            place = (f, *(id(drawn[g]) for g in f.givens))
            if shared and place in once:
                drawn[v] = once[place]
                continue
            distribution = self._distribution(f, drawn).expand(torch.Size(() if shared else (n,)))
            finite = self.model.space(v).kind == "finite"
            mean = finite_mean(distribution) if v in means and not finite else None
            value = distribution.sample() if mean is None else mean
            drawn[v] = value.long() if finite else value
            if shared:
                once[place] = drawn[v]
        return drawn

    def _evidence(self, query: Query, f: Factor, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What an evidence factor gives: the batch's own rows for it, or those of the minibatch moved on."""
        own = keys(self.model, f)
        shift = 0 if any(key in values for key in own.values()) else f.shift
        found: dict[str, Tensor] = {}
        for v, key in own.items():
            column = key[: len(key) - shift]
            if column not in values:
                raise DataError(f"{query.text} takes {v} from evidence: pass batch={{{column!r}: ...}}")
            if 0 < len(values[column]) <= shift:
                rows = f"{len(values[column])} rows hold no {shift + 1} independent draws for each datum"
                raise DataError(f"{query.text} takes {v} from evidence: {rows}", f"pass batch={{{key!r}: ...}}")
            found[v] = values[column].roll(shift, 0)
        return found

    def _distribution(self, f: Factor, values: Mapping[str, Tensor]) -> Any:
        return law_at(self.model, self.emitted, f, values)

    def distribution(self, name: str, batch: Mapping[str, Tensor]) -> Any:
        """The Pyro distribution of one law of the spec, `"q(x|z)"`, at its givens in `batch`, by variable.

        Networks are in evaluation mode. Raises `DataError` for a joint, evidence, or a law without a distribution.
        """
        key = normal(name).replace("'", "")
        if key not in self.model.laws:
            known = tuple(self.model.laws)
            raise DataError(f"no law `{name}`", *(did_you_mean(key, known) or (f"known: {', '.join(known)}",)))
        law = self.model.laws[key]
        missing = [v for v in law.givens if v not in batch]
        if missing:
            raise DataError(f"{law.text} is given {', '.join(missing)}: pass it in `batch`")
        with evaluating(self):
            return self._distribution(Factor(law.key, law.outputs, law.givens), batch)

    def log_prob(self, name: str, batch: Mapping[str, Tensor], particles: int = 1000) -> Tensor:
        """log density of each datum, (N,), in nats: exact where nothing is hidden, or what is hidden has few values,
        over which it is summed; else an importance-sampled lower bound.

        The estimate is log mean_k p(x, z_k) / r(z_k | x) over `particles` draws (Burda et al. 2016, eq. 8), the
        proposal r as `proposals` says. Where few of the draws carry it, it may lie far below: `PoorEstimate` is warned
        of, and `estimate` gives the effective number of draws.

        Of a mixture the branches are summed, or where its label is in the batch, that of each datum is taken, with its
        share. A value that a law never draws has -inf.

        A global is one value for all data, given without rows. What of the density is of globals alone counts 1/N for
        each of the batch's N data, so that the sum over the batch is the joint's log density: their prior once. A
        density of globals alone is a 0-d tensor. Networks are in evaluation mode. Raises `DataError` where the density
        cannot be evaluated.
        """
        found = self.estimate(name, batch, particles)
        if found.effective is not None and found.poor:
            drawn = f"{particles:,} draws from {', '.join(self.proposals(name))}"
            count = f"{float(found.effective.median()):.2g} count in the median (effective sample size)"
            told = f"the estimate of log {normal(name)} is poor: of {drawn}, {count}; it may lie far below the density"
            warnings.warn(told, PoorEstimate, stacklevel=2)
        return found.log_prob

    def estimate(self, name: str, batch: Mapping[str, Tensor], particles: int = 1000) -> Estimate:
        """`log_prob` and how many draws carry it: `effective`, (N,), is (sum_k w_k)^2 / sum_k w_k^2 of the weights w of
        each datum's draws, from 1 to `particles`; None where the density is exact."""
        with evaluating(self):
            return self._densities.estimate(name, batch, particles)

    def proposals(self, name: str) -> tuple[str, ...]:
        """The laws that `log_prob` draws hidden variables from; none where the density is exact.

        They are chosen by the goals: those that stand left of this joint in a KL, its variational posterior; else those
        that a goal trains against it, right of it in a KL or CE or in another branch of its mixture; else the joint's
        own prior. Raises `DataError` where the density cannot be evaluated.
        """
        return self._densities.proposals(name)

    def copies(self, name: str, particles: int = 1000) -> int:
        """How many values of what is hidden `log_prob` holds at once for each datum, in each layer of a network: those
        that it sums over, else `particles`, and 1 where nothing is hidden. Raises `DataError` as `proposals` does."""
        return self._densities.copies(name, particles)

    @property
    def _densities(self) -> Densities:
        return Densities(self.derivation.facts, self._distribution, self.emitted.anchor)

    @staticmethod
    def _known(name: str, names: Any, what: str) -> str:
        if name in names:
            return name
        guess = did_you_mean(name, names) or (f"known: {', '.join(names)}",)
        raise KeyError(f"no {what} {name!r}; {guess[0]}")


def load_module(source: str, name: str) -> ModuleType:
    """The emitted text as a module. Tracebacks and debuggers see its lines."""
    filename = f"<emitted from {printable(name)}>"
    module = ModuleType("jointkl_emitted")
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), module.__dict__)
    return module


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """All parts of `module` in evaluation mode, each as it was before afterwards."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


UNWRITTEN = (
    "it is evidence, or draws a law without a distribution, or a global in a mixture, or mixtures too deep in mixtures"
)


# --- modules of the user's own

PROTOCOL = "it is made by Class(inputs, outputs, **options) and maps (N, *inputs) to (N, *outputs)"


def _verify_class(net: Net) -> None:
    """The class that a net names can be imported, and is a `torch.nn.Module`."""
    module, _, name = net.target.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except (Exception, SystemExit) as error:  # the second: a script that is no module
        raise own_failed(net.name, f"cannot be imported from {module}", error) from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise DataError(f"net {net.name}: {module} has no torch.nn.Module called {name}", f"it says {net.target}")


def _verify_maps(net: Net, made: nn.Module) -> None:
    """A module maps (N, *inputs) to (N, *outputs) and has something to train: tried on zeros, in evaluation mode."""
    (own,) = (layer for layer in plan(net).layers if isinstance(layer, Own))
    try:
        with torch.no_grad(), torch.random.fork_rng([]), evaluating(made):
            found = made(torch.zeros(2, *own.inputs, dtype=torch.get_default_dtype()))
    except Exception as error:
        raise own_failed(net.name, f"cannot be applied to zeros of shape (2, {_sizes(own.inputs)})", error) from error
    if not isinstance(found, Tensor) or found.shape != (2, *own.outputs):
        what = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        need = f"where (2, {_sizes(own.outputs)}) is due"
        raise DataError(f"net {net.name}: {net.target} makes {what} of (2, {_sizes(own.inputs)}), {need}", PROTOCOL)
    if not any(p.requires_grad for p in made.parameters()):
        raise DataError(f"net {net.name}: {net.target} has no parameters to train", "give it a layer that has some")


def _sizes(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def own_place(model: Model, error: Exception) -> tuple[str, str] | None:
    """The nets whose module an error came through, and where it left it; None where it is not the user's own code."""
    modules = {net.target.partition(":")[0]: net.name for net in model.nets.values() if net.target}
    found = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if (name := frame.f_globals.get("__name__")) in modules:
            found = modules[name], f"fails at {frame.f_code.co_filename}:{line}"
    return found


def own_failed(nets: str, what: str, error: BaseException) -> DataError:
    return DataError(
        f"net {nets}: its class {what}: {type(error).__name__}: {error}",
        PROTOCOL,
    )
