"""What the metrics are given of a program: its samples, the rows they stand against, densities, codes, features."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from jointkl.diagnostics import DataError
from jointkl.evaluation import features, pictures
from jointkl.evaluation.features import Features
from jointkl.evaluation.metrics.table import Need
from jointkl.evaluation.subjects import Coded, Dense, Drawn
from jointkl.program import Program
from jointkl.semantics.catalogue import SOURCES
from jointkl.semantics.model import Evidence
from jointkl.sources import Bound
from jointkl.sources.modes import modes

BLOCKS = 10
"""Importance samples come in so many blocks, by whose spread the bound's bias is estimated."""

NUMBERS = 2**23
"""Of one layer of one network at most about so many numbers are held at once."""

FLAT = ("mlp", "linear")
"""Builders whose layers hold no maps."""

Which = Literal["samples", "others", "data", "train"]


class Inapplicable(Exception):
    """A metric that cannot be had of a subject, with the reason."""


@dataclass(frozen=True, eq=False)
class MetricInputs:
    """A program and the rows that it is judged by.

    `data` are the rows to judge against, `train` those it was trained on, or none; `own` the evidence laws whose rows
    are those of their source in the spec. `size` is how many samples are drawn, and how many rows are taken at most.
    Everything is drawn from `seed` alone, each thing apart, so that no metric depends on which others are asked for;
    torch's own random state is left as it was.
    """

    program: Program
    data: Sequence[Bound]
    train: Sequence[Bound]
    unseen: Mapping[str, bool]
    own: frozenset[str]
    size: int
    particles: int
    seed: int
    features: Features | None = None
    _kept: dict[tuple[object, ...], Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return self.program.emitted.anchor.device

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    @contextmanager
    def seeded(self, shift: int = 0) -> Iterator[None]:
        with torch.no_grad(), torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.seed + shift)
            yield

    def _once(self, key: tuple[object, ...], make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    # --- rows and samples

    def rows(self, law: str, training: bool = False, most: int | None = None) -> dict[str, Tensor]:
        """At most `most` rows of an evidence law, or `size`, at random, by variable, on the program's device."""
        most = most or self.size
        return self._once(("rows", law, training, most), lambda: self._rows(law, training, most))

    def _rows(self, law: str, training: bool, most: int) -> dict[str, Tensor]:
        bound = next(b for b in (self.train if training else self.data) if b.law == law)
        index = torch.randperm(len(bound), generator=self.generator())[:most]
        taken = bound.take(index.to(bound.columns[0].device))
        names = self.program.model.laws[law].outputs
        return {v: taken[key].to(self.device) for v, key in zip(names, bound.keys, strict=True)}

    def trained(self, law: str) -> bool:
        """Are there rows of training beside the rows to judge against?"""
        return self.unseen.get(law, False) and any(b.law == law for b in self.train)

    def samples(self, subject: Drawn, again: bool = False) -> Tensor:
        """`size` samples, or, `again`, others. Fewer where the law is given rows and there are fewer."""
        return self._once(("samples", subject, again), lambda: self._samples(subject, again))

    def _samples(self, subject: Drawn, again: bool) -> Tensor:
        batch = self._givens(subject, again) if subject.givens else {}
        total = len(next(iter(batch.values()))) if batch else self.size
        found: list[Tensor] = []
        at_once = self._at_once()
        with self.seeded(int(again)):
            for start in range(0, total, at_once):
                part = {v: values[start : start + at_once] for v, values in batch.items()}
                drawn = self.program.sample(subject.law, min(at_once, total - start), part or None)
                found.append(drawn[subject.variable])
        return torch.cat(found)

    def _giver(self, subject: Drawn) -> str:
        """The evidence law whose rows a law is given: the one it is judged against, if that has them."""
        known = {law.key: set(law.outputs) for law in self.program.model.evidence}
        return next(key for key in (subject.evidence, *known) if set(subject.givens) <= known[key])

    def _givens(self, subject: Drawn, again: bool) -> dict[str, Tensor]:
        """Rows of what a law is given, none of those that it is judged against, which would come in pairs with its
        samples; for other samples rows of training, if there are any."""
        law = self._giver(subject)
        if again and self.trained(law):
            rows = self.rows(law, training=True)
        else:
            rows = self._halves(law)[1] if law == subject.evidence else self.rows(law)
        return {v: rows[v] for v in subject.givens}

    def _halves(self, law: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Rows of an evidence law, and others."""
        rows = self.rows(law, most=2 * self.size)
        half = len(next(iter(rows.values()))) // 2
        return {v: x[:half] for v, x in rows.items()}, {v: x[half:] for v, x in rows.items()}

    def _at_once(self, copies: int = 1) -> int:
        """So many rows that the widest layer of the networks holds about `NUMBERS` for so many copies of them."""
        model = self.program.model
        widths = [v.space.size for v in model.variables.values()]
        for net in model.nets.values():
            spaces = () if net.builder in FLAT else (*net.inputs, *(head.space for head in net.heads))
            area = max((math.prod(space.shape[1:]) for space in spaces if len(space.shape) == 3), default=1)
            widths += [area * width for width in net.widths]
        return max(1, NUMBERS // (max(widths) * copies))

    # --- what each need is

    def given(self, need: Need, subject: Any, reference: bool = False) -> dict[str, Any] | None:
        """What a family of this need takes, by name. Raises `Inapplicable`.

        With `reference` rows of training stand in the place of samples or, for densities and codes, of the rows to
        judge against; None where there are none to stand there.
        """
        return _GIVEN[need](self, subject, reference)

    def _modes(self, subject: Drawn, reference: bool) -> dict[str, Any] | None:
        body = self.program.model.laws[subject.evidence].body
        assert isinstance(body, Evidence)
        known = modes(body.source, dict(body.options)) if subject.evidence in self.own else None
        place = self.program.model.laws[subject.evidence].outputs.index(subject.variable)
        if known is None or body.columns[place] != 0:
            raise Inapplicable(f"the modes of {subject.evidence} are not known: its source is no mixture")
        x = self._set(subject, "data" if reference else "samples")
        return {"samples": x, "modes": known[0].to(self.device), "std": known[1]}

    def _set(self, subject: Drawn, which: Which) -> Tensor:
        """Samples, as many others, rows to judge against, or as many rows of training."""
        match which:
            case "samples" | "others":
                return self.samples(subject, again=which == "others")
            case "data":
                own = bool(subject.givens) and self._giver(subject) == subject.evidence
                return (self._halves(subject.evidence)[0] if own else self.rows(subject.evidence))[subject.variable]
            case "train":
                count = len(self._set(subject, "data"))
                return self.rows(subject.evidence, training=True)[subject.variable][:count]

    def _seen(self, subject: Drawn, which: Which, net: Features) -> tuple[Tensor, Tensor | None]:
        """Features and logits of a set."""
        return self._once(("seen", subject, which), lambda: net.of(_channels(self._set(subject, which)).float()))

    def _points(self, subject: Drawn, reference: bool) -> dict[str, Any] | None:
        if reference and not self.trained(subject.evidence):
            return None
        sets: tuple[Which, Which] = ("train" if reference else "samples", "data")
        n = min(len(self._set(subject, which)) for which in sets)
        seen = self.features_of(subject) if self._are_images(subject) else None
        if seen is not None:
            x, y = (self._seen(subject, which, seen)[0][:n] for which in sets)
            return {"samples": x, "data": y}
        x, y = (self._set(subject, which)[:n].double().reshape(n, -1) for which in sets)
        if self._measured(subject):
            middle, spread = y.mean(0), y.std(0)
            spread = torch.where(spread > 0, spread, 1.0)
            x, y = (x - middle) / spread, (y - middle) / spread
        return {"samples": x, "data": y}

    def _measured(self, subject: Drawn) -> bool:
        """Are the numbers of a variable each in a unit of its own, rather than the pixels of an image?"""
        space = self.program.model.space(subject.variable)
        return space.kind in ("real", "positive", "natural") and len(space.shape) < 2

    def view(self, subject: Drawn) -> str:
        """How points are compared, for the reader."""
        if self._are_images(subject) and (seen := self.features_of(subject)) is not None:
            return seen.about
        return (
            "numbers in units of the data's standard deviations" if self._measured(subject) else "numbers as they are"
        )

    def _are_images(self, subject: Drawn) -> bool:
        return pictures.kind_of(self.program.model.space(subject.variable), self._set(subject, "data")) == "images"

    def _images(self, subject: Drawn, reference: bool) -> dict[str, Any] | None:
        if not self._are_images(subject):
            raise Inapplicable(f"{subject.variable} is no image with values from 0 to 1")
        return {"samples": _channels(self._set(subject, "data" if reference else "samples"))}

    def _features(self, subject: Drawn, reference: bool) -> dict[str, Any] | None:
        self._needed(subject)
        return self._points(subject, reference)

    def _logits(self, subject: Drawn, reference: bool) -> dict[str, Any] | None:
        net = self._needed(subject)
        logits = self._seen(subject, "data" if reference else "samples", net)[1]
        if logits is None:
            raise Inapplicable(f"the features {net.name} give no logits")
        return {"samples": logits}

    def _needed(self, subject: Drawn) -> Features:
        if not self._are_images(subject):
            raise Inapplicable(f"{subject.variable} is no image with values from 0 to 1")
        seen = self.features_of(subject)
        if seen is None:
            raise Inapplicable(
                f"the source of {subject.evidence} has no classes to train a classifier on: name features, "
                "as in --features inception"
            )
        return seen

    def features_of(self, subject: Drawn) -> Features | None:
        """The features asked for, else the classifier of the variable's own source, if its images have classes that can
        be read."""
        if self.features is not None:
            return self.features
        return self._once(("features", subject.evidence, subject.variable), lambda: self._classifier(subject))

    def _classifier(self, subject: Drawn) -> Features | None:
        law = self.program.model.laws[subject.evidence]
        assert isinstance(law.body, Evidence)
        row = SOURCES.get(law.body.source)
        if row is None or subject.evidence not in self.own:
            return None
        options = tuple((name, value) for name, value in law.body.options if name != "split")
        found = features.places(row, options)
        if found is None or found[0] != law.body.columns[law.outputs.index(subject.variable)]:
            return None
        try:
            return features.of_source(row.name, options)
        except DataError:  # a folder of images alone: they were read, and have no classes
            return None

    def _critic(self, subject: Drawn, reference: bool) -> dict[str, Any] | None:
        if reference:
            return None
        y = self._set(subject, "data")
        if self.trained(subject.evidence):
            known = self.rows(subject.evidence, training=True)[subject.variable]
        else:
            y, known = y[: len(y) // 2], y[len(y) // 2 :]
        x = self._set(subject, "samples")
        if subject.givens and not self.trained(self._giver(subject)):  # other draws of the same rows are not unseen
            x, others = x[: len(x) // 2], x[len(x) // 2 :]
        else:
            others = self._set(subject, "others")
        return {"samples": x, "data": y, "train_samples": others, "train_data": known}

    def _density(self, subject: Dense, reference: bool) -> dict[str, Any] | None:
        if reference and not self.trained(subject.evidence):
            return None
        rows = self.rows(subject.evidence, training=reference)
        if reference:
            count = len(next(iter(self.rows(subject.evidence).values())))
            rows = {v: values[:count] for v, values in rows.items()}
        n = len(next(iter(rows.values())))
        exact = not self.program.proposals(subject.law)
        blocks, each = (1, 1) if exact else (min(BLOCKS, self.particles), max(1, self.particles // BLOCKS))
        at_once = self._at_once(self.program.copies(subject.law, each))
        found = torch.empty(blocks, n, dtype=torch.float64)
        effective = torch.zeros(n, dtype=torch.float64)
        with self.seeded():
            for block in range(blocks):
                for start in range(0, n, at_once):
                    part = {v: values[start : start + at_once] for v, values in rows.items()}
                    try:
                        made = self.program.estimate(subject.law, part, each)
                    except ValueError as error:  # a value outside its variable's space
                        raise DataError(
                            f"{subject.law} cannot be evaluated at the data: {str(error).splitlines()[0]}"
                        ) from None
                    found[block, start : start + at_once] = made.log_prob.double().cpu()
                    if made.effective is not None:
                        effective[start : start + at_once] += made.effective.double().cpu()
        return {"blocks": found} if exact else {"blocks": found, "particles": blocks * each, "effective": effective}

    def _codes(self, subject: Coded, reference: bool) -> dict[str, Any] | None:
        if reference and not self.trained(subject.evidence):
            return None
        x = self.rows(subject.evidence, training=reference)[subject.variable]
        if reference:
            x = x[: len(self.rows(subject.evidence)[subject.variable])]
        at_once = self._at_once()
        finite = self.program.model.space(subject.variable).values
        found: list[Tensor] = []
        with self.seeded():
            for part in x.split(at_once):
                codes = self.program.sample(subject.encoder, len(part), {subject.variable: part})
                found.append(centre(self.program.distribution(subject.decoder, codes), len(part), len(finite)))
        return {"data": x, "rebuilt": torch.cat(found)}


_GIVEN: Mapping[Need, Callable[[MetricInputs, Any, bool], dict[str, Any] | None]] = {
    "modes": MetricInputs._modes,
    "density": MetricInputs._density,
    "codes": MetricInputs._codes,
    "points": MetricInputs._points,
    "images": MetricInputs._images,
    "features": MetricInputs._features,
    "logits": MetricInputs._logits,
    "critic": MetricInputs._critic,
}


def centre(distribution: Any, n: int, classes: int) -> Tensor:
    """What a law gives without its noise: of classes the likeliest, else its mean, or a draw where it has none."""
    law = distribution.expand(torch.Size((n,)))
    if classes:
        every = [law.log_prob(torch.full((n,), float(k), device=law.mean.device)) for k in range(classes)]
        return torch.stack(every).argmax(0)
    mean = law.mean
    return mean if bool(mean.isfinite().all()) else law.sample()


def _channels(images: Tensor) -> Tensor:
    return images.unsqueeze(1) if images.dim() == 3 else images
