"""What may be done with a factor or an atom: sample (S), reparameterise (R), evaluate (L); and who owns it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from jointkl.derivation.expr import (
    Atom,
    ClosedCE,
    ClosedKL,
    LogFactor,
    Logit,
    LogMarginal,
    LogSigmoid,
    LogWeight,
    Moments,
    OldDistance,
    Penalty,
)
from jointkl.derivation.players import Player, law_trainables, players
from jointkl.semantics.families import FAMILIES
from jointkl.semantics.model import Dirac, Distribution, Evidence, Factor, Free, Joint, Model, Target


@dataclass(frozen=True, slots=True)
class Facts:
    """A model with what follows from it alone. `identities`: by its key what each law is whose name was looked at; a
    name that the spec does not define is the first's that is called so."""

    model: Model
    feeds: Mapping[str, frozenset[Target]]
    players: tuple[Player, ...]
    order: Mapping[str, int]
    identities: dict[str, object] = field(default_factory=dict[str, object], compare=False, repr=False)

    def identity(self, key: str, made: Callable[[], object]) -> object:
        """What is known by a law's key; made when first asked for."""
        if key not in self.identities:
            self.identities[key] = made()
        return self.identities[key]

    def trained(self, factor: Factor) -> bool:
        """Does any player train this factor? An old one nobody does."""
        return not factor.old and bool(self.feeds[factor.law])

    def current(self, factor: Factor) -> Factor:
        """The factor; not old where nobody trains it, since it is then the same at every snapshot."""
        return replace(factor, old=False) if factor.old and not self.feeds[factor.law] else factor

    def owns(self, player: Player, factor: Factor) -> bool:
        return not factor.old and not self.feeds[factor.law].isdisjoint(player.members)

    def live(self, player: Player, path: Iterable[Factor]) -> frozenset[str]:
        """The variables of a path that move with the player: outputs of its factors, and what descends from them."""
        moving: set[str] = set()
        for f in path:
            if self.owns(player, f) or any(v in moving for v in f.givens):
                moving.update(f.outputs)
        return frozenset(moving)

    def param_live(self, player: Player, atom: Atom) -> bool:
        match atom:
            case Logit(critic=critic) | LogSigmoid(logit=Logit(critic=critic)):
                return critic in player.members
            case _:
                return any(self.owns(player, f) for f in factors_of(atom))

    def moves(self, player: Player, live: Collection[str], atom: Atom) -> bool:
        """Does an atom move with the player: by what it evaluates, or by its variables, of which `live` do?"""
        return self.param_live(player, atom) or any(v in live for v in atom.variables)

    def reparameterised(self, factor: Factor) -> bool:
        """R: a draw is a differentiable function of parameters, givens and noise. Evidence moves with nothing."""
        match self.model.laws[factor.law].body:
            case Distribution(family=family):
                return FAMILIES[family].reparameterised
            case Dirac() | Evidence():
                return True
            case Free() | Joint():
                return False

    def has_density(self, factor: Factor, path: Iterable[Factor]) -> bool:
        """L: a Dirac only by its `density=`, and only where the value is not the Dirac's own draw on this path."""
        match self.model.laws[factor.law].body:
            case Distribution() | Free():
                return True
            case Dirac(density=density):
                own = any(f.law == factor.law and f.variables == factor.variables for f in path)
                return density is not None and not own
            case Evidence() | Joint():
                return False

    def evaluable(self, atom: Atom, path: Iterable[Factor]) -> bool:
        match atom:
            case LogFactor(factor=factor):
                return self.has_density(factor, path)
            case LogMarginal(hidden=hidden):
                finite = all(self.model.space(v).kind == "finite" for v in hidden)
                return finite and all(self.has_density(f, path) for f in atom.factors)
            case LogWeight() | ClosedKL() | ClosedCE() | OldDistance() | Logit() | LogSigmoid() | Moments() | Penalty():
                return True


def facts_of(model: Model) -> Facts:
    feeds = law_trainables(model)
    return Facts(model, feeds, players(model, feeds), {name: i for i, name in enumerate(model.variables)})


def factors_of(atom: Atom) -> tuple[Factor, ...]:
    """The factors that an atom evaluates."""
    match atom:
        case LogFactor(factor=factor) | OldDistance(factor=factor) | Penalty(factor=factor):
            return (factor,)
        case LogMarginal():
            return atom.factors
        case ClosedKL(left=left, right=right) | ClosedCE(left=left, right=right):
            return (left, right)
        case LogWeight() | Logit() | LogSigmoid() | Moments():
            return ()


def outputs_of(atom: Atom) -> tuple[str, ...]:
    """The variables that an atom is the log density of."""
    match atom:
        case LogFactor(factor=f, value=None):
            return f.outputs
        case LogMarginal(outputs=outputs):
            return outputs
        case _:
            return ()


def ancestors(path: tuple[Factor, ...], variables: Iterable[str]) -> tuple[Factor, ...]:
    """The factors of a path that `variables` descend from."""
    needed = set(variables)
    kept: list[Factor] = []
    for f in reversed(path):
        if not needed.isdisjoint(f.outputs):
            kept.append(f)
            needed.update(f.givens)
    return tuple(reversed(kept))
