"""Small finite worlds: every law of a spec as a table, and what is known there at the optimum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import torch
from torch import Tensor

from jointkl.audit.tables import Table, added, added_all, aligned, detached, fixed, product, scaled, spread, summed
from jointkl.derivation.derive import Derivation
from jointkl.derivation.expr import (
    Atom,
    ClosedKL,
    Entry,
    LogFactor,
    Logit,
    LogMarginal,
    LogSigmoid,
    LogWeight,
    Moments,
    OldDistance,
    Penalty,
)
from jointkl.derivation.players import Player, classifier, divergences
from jointkl.semantics.model import Evidence, Factor, Joint, Side, base

VALUES = 3
"""Values of a variable that is not finite, and most values of one that is no label."""


@dataclass(slots=True)
class World:
    """Random tables for every law; `live` parameters are those of the audited player, the others are constants."""

    derivation: Derivation
    seed: int
    player: Player
    fixed: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    theta: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    overrides: dict[str, Table] = field(default_factory=dict[str, Table])
    ratios: dict[str, Table] = field(default_factory=dict[str, Table])

    def __post_init__(self) -> None:
        g = torch.Generator().manual_seed(self.seed)
        for name in self.derivation.model.declared:
            value = torch.randn(4, generator=g, dtype=torch.float64) * 0.3
            self.theta[name] = value.requires_grad_(name in self.player.members)
        self._solve_free()
        self._optimise_classifiers()
        self._optimise_critics()

    # sizes and raw tables

    def size(self, name: str) -> int:
        space = self.derivation.model.space(name)
        if space.kind == "finite":
            return len(space.values) if base(name) in self._labels() else min(len(space.values), VALUES)
        return VALUES

    def _labels(self) -> set[str]:
        laws = self.derivation.model.laws.values()
        return {law.body.label or "" for law in laws if isinstance(law.body, Joint)}

    def _random(self, key: str, shape: tuple[int, ...]) -> Tensor:
        """A fixed random tensor for a key: the same in every world of this seed."""
        if key not in self.fixed:
            g = torch.Generator().manual_seed(_hash(key) + self.seed)
            self.fixed[key] = torch.randn(shape, generator=g, dtype=torch.float64)
        return self.fixed[key]

    def _softmax(self, key: str, outputs: Sequence[str], givens: Sequence[str], old: bool) -> Tensor:
        """A table over givens then outputs, its logits moved by every net and param that feeds the law."""
        shape = tuple(self.size(v) for v in (*givens, *outputs))
        logits = self._random(key, shape)
        for name in sorted(self.derivation.facts.feeds[key]):
            if name in self.theta:
                direction = self._random(f"{key}@{name}", (*shape, 4))
                theta = self.theta[name].detach() if old else self.theta[name]
                logits = logits + direction @ theta
        flat = logits.reshape(*shape[: len(givens)], -1).softmax(-1)
        return flat.reshape(shape)

    def law(self, factor: Factor) -> Table:
        """P(outputs | givens) of a factor. A Dirac is the limit of its `density=`: one table stands for both."""
        law = self.derivation.model.laws[factor.law]
        if factor.at:
            anew = tuple(f"@{i}" if isinstance(v, int) else v for i, v in enumerate(factor.arguments))
            table = self.law(replace(factor, givens=anew, at=()))
            for place, value in factor.at:
                table = fixed(table, anew[place], self.place(law.givens[place], value))
            return table
        names = (*factor.givens, *factor.outputs)
        key = factor.law
        if key in self.overrides and not factor.old:
            known = self.overrides[key]
            renames = dict(zip((*law.givens, *law.outputs), names, strict=True))
            return Table(tuple(renames[n] for n in known.names), known.values)
        body = law.body
        if isinstance(body, Joint):
            table = self.joint(body, law.outputs, law.givens, old=factor.old)
            renames = dict(zip((*law.givens, *law.outputs), names, strict=True))
            return Table(tuple(renames[n] for n in table.names), table.values)
        if isinstance(body, Evidence) and body.rows != key:
            return self._marginal_evidence(factor, body.rows)
        return Table(names, self._softmax(key, law.outputs, law.givens, factor.old))

    def _marginal_evidence(self, factor: Factor, rows: str) -> Table:
        whole = self.derivation.model.laws[rows]
        mine = self.derivation.model.laws[factor.law]
        names = dict(zip(mine.outputs, factor.outputs, strict=True))
        values = self._softmax(rows, whole.outputs, (), False)
        return summed(Table(tuple(names.get(v, v) for v in whole.outputs), values), set(factor.outputs))

    def joint(self, body: Joint, outputs: Sequence[str], givens: Sequence[str], *, old: bool = False) -> Table:
        """The table of a joint: hidden variables summed out, branches weighted, a visible label a dimension."""
        label = body.label if body.label in outputs else None
        keep = {v for v in (*outputs, *givens) if v != label}
        tables = []
        for branch in body.branches:
            factors = [self.law(replace(f, old=f.old or old)) for f in branch.factors]
            tables.append(scaled(summed(product(factors), keep), float(branch.weight)))
        if label is None:
            return added([aligned(t, tuple(sorted(keep))) for t in tables])
        names = tuple(sorted(keep))
        places = [self.place(label, b.value or 0) for b in body.branches]
        stacked = torch.stack(
            [aligned(t, names).values for _, t in sorted(zip(places, tables, strict=True), key=lambda p: p[0])]
        )
        return Table((label, *names), stacked)

    def place(self, label: str, value: int) -> int:
        return self.derivation.model.space(label).values.index(value)

    def side(self, side: Side) -> Table:
        return self.joint(side.joint, side.head, ())

    # what is known at the optimum

    def _solve_free(self) -> None:
        """A Free law at its optimum: softmax of what its derived entry says."""
        for p in self.derivation.facts.players:
            if p.kind != "free" or p is self.player or p.name == self.player.name:
                continue
            entry = self.derivation.losses[p.name][0]
            self.overrides[p.laws[0]] = detached(self.solution(entry))

    def solution(self, entry: Entry) -> Table:
        f = entry.free
        assert f is not None
        scores = added_all([scaled(self.atom(t.atom, entry), -float(t.coefficient)) for t in entry.terms])
        law = self.derivation.model.laws[f.law]
        names = (*f.givens, *f.outputs)
        full = aligned(spread(scores, names, self.size), names)
        values = full.values.softmax(-1)
        return Table((*law.givens, *law.outputs), values)

    def _optimise_classifiers(self) -> None:
        """Each classifier but the audited one: c(k|v) proportional to the weight times branch k's marginal over v."""
        model = self.derivation.model
        for goal in model.goals:
            for divergence in divergences(goal):
                c = classifier(model, divergence)
                if c is None or c.law in self.player.laws:
                    continue
                left = self.side(divergence.left)
                law = model.laws[c.law]
                names = (*c.givens, *c.outputs)
                both = aligned(summed(left, set(names)), names)
                values = (both.values / both.values.sum(-1, keepdim=True)).detach()
                self.overrides[c.law] = Table((*law.givens, *law.outputs), values)

    def _optimise_critics(self) -> None:
        """l = log reference/moving, read off the critic's own loss."""
        for p in self.derivation.facts.players:
            if p.kind != "critic":
                continue
            for name in {
                t.atom.logit.critic
                for e in self.derivation.losses[p.name]
                for t in e.terms
                if isinstance(t.atom, LogSigmoid)
            }:
                self.ratios[name] = detached(self._ratio(p, name))

    def _ratio(self, p: Player, critic: str) -> Table:
        up, down = self.critic_samples(p, critic)
        return Table(up.names, up.values.log() - aligned(down, up.names).values.log())

    def critic_samples(self, p: Player, critic: str) -> tuple[Table, Table]:
        """The densities of the reference and of the moving samples over the critic's inputs."""
        parts: dict[bool, list[Table]] = {True: [], False: []}
        for e in self.derivation.losses[p.name]:
            for t in e.terms:
                if isinstance(t.atom, LogSigmoid) and t.atom.logit.critic == critic:
                    names = t.atom.logit.inputs
                    density = summed(product([self.law(f) for f in e.path]), set(names))
                    parts[t.atom.up].append(scaled(aligned(density, names), float(e.weight)))
        return added(parts[True]), added(parts[False])

    # atoms

    def atom(self, a: Atom, entry: Entry) -> Table:
        """An atom as a function of the path's variables; a label is the entry's value."""
        match a:
            case LogFactor(factor=f, value=value):
                table = self.law(f)
                found = Table(table.names, table.values.log())
                if value is not None:
                    found = fixed(found, f.outputs[0], self.place(f.outputs[0], value))
                return self._labelled(found, entry)
            case LogMarginal():
                weighted = [
                    scaled(summed(product([self.law(f) for f in fs]), set(a.variables)), float(w))
                    for w, fs in a.branches
                ]
                total = added([aligned(t, tuple(sorted(a.variables))) for t in weighted])
                return self._labelled(Table(total.names, total.values.log()), entry)
            case LogWeight(share=share):
                return Table((), torch.tensor(math.log(share), dtype=torch.float64))
            case ClosedKL(left=left, right=right):
                return self._labelled(self._kl(left, right), entry)
            case Logit(critic=critic, inputs=inputs):
                return Table(inputs, self.ratios[critic].values)
            case LogSigmoid() | OldDistance() | Moments() | Penalty():
                return Table((), torch.zeros((), dtype=torch.float64))

    def _labelled(self, table: Table, entry: Entry) -> Table:
        if entry.label is not None and entry.label[0] in table.names:
            return fixed(table, entry.label[0], self.place(*entry.label))
        return table

    def _kl(self, left: Factor, right: Factor) -> Table:
        f, g = self.law(left), self.law(right)
        names = tuple(dict.fromkeys((*f.names, *g.names)))
        p = aligned(spread(f, names, self.size), names)
        q = aligned(spread(g, names, self.size), names)
        return summed(Table(names, p.values * (p.values.log() - q.values.log())), set(names) - set(left.outputs))


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big")
