"""Networks that images are seen by: a small classifier trained on the spot, Inception, or one of the user's own."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jointkl.diagnostics import DataError
from jointkl.evaluation import errors
from jointkl.semantics.catalogue import SOURCES, Open, OptionValue, SourceRow
from jointkl.sources import load

STEPS, BATCH, WIDTH = 600, 64, 64
MOST = 10_000
"""A classifier is trained on at most so many rows."""

AT_ONCE = 256

Net = Callable[[Tensor], tuple[Tensor, Tensor | None]]
Options = tuple[tuple[str, OptionValue], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """`net` maps images (n, C, H, W), values from 0 to 1, to features (n, d) and, if it is a classifier, logits (n, K).

    `about` names it for the reader.
    """

    name: str
    net: Net
    about: str

    @torch.no_grad()
    def of(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (n, d), and logits (n, K) or None, on the images' device. Raises `DataError` where the net fails."""
        found: list[tuple[Tensor, Tensor | None]] = []
        for part in images.split(AT_ONCE):
            try:
                features, logits = self.net(part)
                found.append((features.flatten(1), logits))
            except Exception as error:  # the net may be the user's own code
                raise errors.features_failed(self.name, tuple(images.shape[1:]), error) from error
            if len(features) != len(part):
                raise errors.features_shape(self.name, tuple(features.shape), len(part))
        logits = [logit for _, logit in found if logit is not None]
        return torch.cat([f for f, _ in found]), torch.cat(logits) if len(logits) == len(found) else None


# --- a classifier of our own


class Classifier(nn.Module):
    """Two convolutions, a layer of 64 numbers, which are the features, and one of logits."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.maps = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.ReLU(), nn.Flatten(),
            nn.Linear(32 * ((height + 1) // 2) * ((width + 1) // 2), WIDTH), nn.ReLU(),
        )  # fmt: skip
        self.logits = nn.Linear(WIDTH, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.maps(images.float())
        return features, self.logits(features)


def classifier(images: Tensor, classes: Tensor, seed: int = 0) -> Classifier:
    """A classifier of images (n, C, H, W) into K classes, (n,) integers, trained in 600 steps of Adam.

    The same rows and seed give the same bits, whatever random state or number of threads torch has; it is in evaluation
    mode and asks for no gradient.
    """
    with torch.enable_grad(), torch.random.fork_rng([]), _one_thread():
        torch.manual_seed(seed)
        net = Classifier(tuple(images.shape[1:]), int(classes.max()) + 1)
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, STEPS)
        for _ in range(STEPS):
            rows = torch.randint(len(images), (BATCH,))
            loss = F.cross_entropy(net(images[rows])[1], classes[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval().requires_grad_(False)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums of several threads may differ in their last bits from machine to machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def places(row: SourceRow, options: Options) -> tuple[int, int] | None:
    """Which columns of a source are images (C, H, W) from 0 to 1 and their classes; None if it has no such pair."""
    columns = row.columns(dict(options)) if row.columns else ()
    spaces = [column.example if isinstance(column, Open) else column for column in columns]
    images = [i for i, s in enumerate(spaces) if s.kind in ("unit", "binary") and len(s.shape) == 3]
    classes = [i for i, s in enumerate(spaces) if s.kind == "finite"]
    return (images[0], classes[0]) if images and classes else None


@lru_cache(maxsize=8)
def of_source(source: str, options: Options = ()) -> Features | None:
    """The classifier of a built-in source of images with classes, seen through the source's own options; None for a
    source without images, or with less than two classes.

    It is trained on the split `train`, at most 10,000 rows, once in a process. Raises `DataError` for a source that is
    not there.
    """
    row = SOURCES[source]
    found = places(row, options)
    if found is None:
        return None
    splits = any(option.name == "split" for option in row.options)
    (images, classes), (unseen, truth) = (
        load(source, dict(options) | ({"split": part} if splits else {}), columns=found) for part in ("train", "test")
    )
    if len(classes[:].unique()) < 2:
        return None
    rows = torch.linspace(0, len(images) - 1, min(len(images), MOST)).round().long()
    net = classifier(images[rows], classes[rows])
    features = Features(source, net, "")
    logits = features.of(unseen[:MOST])[1]
    assert logits is not None
    right = float((logits.argmax(1) == truth[:MOST]).double().mean())
    about = (
        f"{WIDTH} features of a classifier of {source}, right on {right:.1%} of its {'test' if splits else 'own'} rows"
    )
    return Features(source, _on_its_device(net), about)


def _on_its_device(net: nn.Module) -> Net:
    return lambda images: net.to(images.device)(images)


# --- others


def named(name: str, allowed: Collection[str] = (), download: bool = False) -> Features:
    """Features by what `--features` says: `inception`, a source of images with classes, as `digits`, or
    `package.module:factory`, whose module must be among `allowed`.

    `factory()` gives a callable, as a `torch.nn.Module` is one, from images (n, C, H, W) to features (n, d), or to a
    pair of features and logits. Raises `DataError`.
    """
    if name == "inception":
        return inception(download)
    module, colon, factory = name.partition(":")
    if not colon:
        if name not in SOURCES:
            raise errors.unknown_features(name, [s for s, row in SOURCES.items() if places(row, ())])
        if (found := of_source(name)) is None:
            raise errors.no_classes(name)
        return found
    if module not in allowed:
        raise errors.features_not_allowed(name, module)
    try:
        made = getattr(importlib.import_module(module), factory)()
    except (Exception, SystemExit) as error:  # the second: a script that is no module
        raise errors.features_failed(name, None, error) from error
    if isinstance(made, nn.Module):
        made = made.eval()
    return Features(name, own(made), f"features of {name}")


def own(function: Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]) -> Net:
    """A function of the user's own as a net: what it gives is features, or features and logits."""

    def net(images: Tensor) -> tuple[Tensor, Tensor | None]:
        if isinstance(function, nn.Module):
            function.to(images.device)
        found = function(images)
        return found if isinstance(found, tuple) else (found, None)

    return net


def inception(download: bool = False) -> Features:
    """Inception-v3 as the FID of Heusel et al. 2017 uses it: 2,048 features, 1,008 logits (torch-fidelity's port, which
    torchmetrics takes too).

    Needs the extra `metrics`, and its weights, 91 MB: fetched once if `download` allows it. Grey images are given three
    equal channels. Raises `DataError` where either is missing.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
    except ImportError as error:
        raise errors.no_extra() from error
    from pathlib import Path

    kept = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]
    if not kept.is_file() and not download:
        raise errors.no_weights(str(kept))
    try:
        net = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"])
    except OSError as error:
        raise DataError(f"the weights of Inception cannot be fetched: {error}") from error

    def apply(images: Tensor) -> tuple[Tensor, Tensor | None]:
        bytes_ = (images.clamp(0, 1) * 255).round().to(torch.uint8).expand(-1, 3, -1, -1)
        features, logits = net.to(images.device)(bytes_)
        return features, logits

    return Features("inception", apply, "2048 features of Inception-v3")
