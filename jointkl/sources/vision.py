"""The data sets of torchvision, read and fetched by its own code.

Their files lie as torchvision lays them: `MNIST/raw/`, `FashionMNIST/raw/`, `cifar-10-batches-py/`, `celeba/`,
`train_32x32.mat`. CIFAR10's are pickled: nothing is unpickled whose checksum is not the one that torchvision knows.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jointkl.diagnostics import DataError
from jointkl.semantics.catalogue import shape_of
from jointkl.sources import source_errors
from jointkl.sources.conversions import VARIABLE, at_home, root
from jointkl.sources.images import Look, pictures
from jointkl.sources.request import Request
from jointkl.sources.streams import Array, each, from_bytes

SILENCE = 60.0
"""Seconds without a byte after which a download has failed."""


@dataclass(frozen=True, slots=True)
class Set:
    """A data set: torchvision's class, the arguments of each part, the files (path, md5 or None) that must be there
    for a class and its arguments, and how to get images (N, C, H, W) and classes (N,) from what it loads."""

    name: str
    parts: Mapping[str, Sequence[Mapping[str, Any]]]
    files: Callable[[Any, Mapping[str, Any]], list[tuple[str, str | None]]]
    arrays: Callable[[Any], tuple[Tensor, Tensor]]
    shape: tuple[int, int, int]


TRAIN, TEST = {"train": True}, {"train": False}
HALVES = {"train": (TRAIN,), "test": (TEST,), "all": (TRAIN, TEST)}


def _mnist_files(of: Any, arguments: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    return [(f"{of.__name__}/raw/{name.removesuffix('.gz')}", None) for name, _ in of.resources]


def _cifar_files(of: Any, arguments: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    files = [*of.train_list, *of.test_list, (of.meta["filename"], of.meta["md5"])]
    return [(f"{of.base_folder}/{name}", md5) for name, md5 in files]


def _svhn_files(of: Any, arguments: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    _, name, md5 = of.split_list[arguments["split"]]
    return [(name, md5)]


def _celeba_files(of: Any, arguments: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    tables = [(f"{of.base_folder}/{name}", md5) for _, md5, name in of.file_list if name.endswith(".txt")]
    return [*tables, (f"{of.base_folder}/img_align_celeba", None)]


MNIST = Set("MNIST", HALVES, _mnist_files, lambda d: (d.data.unsqueeze(1), d.targets), (1, 28, 28))
FASHION = Set("FashionMNIST", HALVES, _mnist_files, MNIST.arrays, (1, 28, 28))
CIFAR10 = Set(
    "CIFAR10",
    HALVES,
    _cifar_files,
    lambda d: (torch.from_numpy(np.ascontiguousarray(d.data.transpose(0, 3, 1, 2))), torch.tensor(d.targets)),
    (3, 32, 32),
)
SVHN = Set(
    "SVHN",
    {part: ({"split": part},) for part in ("train", "test", "extra")},
    _svhn_files,
    lambda d: (torch.from_numpy(np.ascontiguousarray(d.data)), torch.from_numpy(d.labels)),
    (3, 32, 32),
)


def mnist(request: Request) -> tuple[Array, ...]:
    """Images (N, 1, 28, 28) from 0 (paper) to 1 (ink) and classes (N,)."""
    return _loaded(MNIST, request)


def fashion_mnist(request: Request) -> tuple[Array, ...]:
    """Images (N, 1, 28, 28) from 0 (ground) to 1 and classes (N,), in torchvision's order."""
    return _loaded(FASHION, request)


def cifar10(request: Request) -> tuple[Array, ...]:
    """Images (N, 3, 32, 32) and classes (N,), in torchvision's order."""
    return _loaded(CIFAR10, request)


def svhn(request: Request) -> tuple[Array, ...]:
    """Images (N, 3, 32, 32) and digits (N,)."""
    return _loaded(SVHN, request)


def _loaded(row: Set, request: Request) -> tuple[Array, ...]:
    parts = [_part(row, request, arguments) for arguments in row.parts[request.options["split"]]]
    images, classes = (torch.cat(column) for column in zip(*parts, strict=True))
    return seen(from_bytes(images), request.options), classes


def _part(row: Set, request: Request, arguments: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    images, classes = row.arrays(_opened(row.name, row.files, request, arguments))
    if images.dtype != torch.uint8 or images.shape[1:] != row.shape or classes.shape != images.shape[:1]:
        expected = f"images of shape {row.shape} in bytes, and a class for each"
        found = f"images of shape {tuple(images.shape[1:])}, {len(images)} of them, and {len(classes)} classes"
        raise source_errors.other_images(request.where, _root(request), expected, found)
    return images, classes.long()


def seen(images: Array, options: Mapping[str, Any]) -> Array:
    """Images (N, C, H, W) from 0 to 1, scaled, in grey or cut as the options say."""
    channels, *size = images.shape[1:]
    if options.get("size") is not None:
        size = shape_of(options["size"])
        images = each(images, (channels, *size), lambda rows: _resized(rows, size))
    if options.get("grey"):
        images = each(images, (1, *size), _grey)
    if options.get("threshold") is not None:
        images = each(images, (channels, *size), lambda rows: (rows > options["threshold"]).float())
    return images


def _resized(images: Tensor, size: Sequence[int]) -> Tensor:
    """Images scaled bilinearly, each new pixel an average over what it covers."""
    found = torch.nn.functional.interpolate(images, tuple(size), mode="bilinear", antialias=True, align_corners=False)
    return found.clamp_(0, 1)


def _grey(images: Tensor) -> Tensor:
    """Brightness of red, green and blue (B, 3, H, W), by the weights of ITU-R BT.601: (B, 1, H, W)."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device)
    return torch.einsum("bchw,c->bhw", images, weights).unsqueeze(1).clamp_(0, 1)


def celeba(request: Request) -> tuple[Array, ...]:
    """Faces (N, 3, size, size) and their attributes (N, 40), 1 where a face has it."""
    options = request.options
    dataset = _opened("CelebA", _celeba_files, request, {"split": options["split"]})
    if not len(dataset):
        raise source_errors.unreadable_data_set(request.where, _root(request), "its lists name no image")
    folder = _root(request) / dataset.base_folder / "img_align_celeba"
    lacking = sorted({*dataset.filename}.difference(os.listdir(folder)))
    if lacking:
        reason = f"{len(lacking):,} of its images are not in {folder.name}, {lacking[0]} among them"
        raise source_errors.unreadable_data_set(request.where, _root(request), reason)
    images = pictures(folder, dataset.filename, Look.of(options), request.where, options["cache"])
    return images, dataset.attr.float()


def _root(request: Request) -> Path:
    named = request.options["root"]
    return at_home(named) if named else root()


def _opened(
    name: str,
    files: Callable[[Any, Mapping[str, Any]], list[tuple[str, str | None]]],
    request: Request,
    arguments: Mapping[str, Any],
) -> Any:
    """torchvision's data set of this name, its files there and the right ones."""
    from torchvision import datasets

    # torchvision's MNIST prefers files that its old versions wrote, unpickled and of no known checksum
    of = type(name, (getattr(datasets, name),), {"_check_legacy_exist": lambda self: False})
    folder, wanted = _root(request), files(of, arguments)
    fault = _fault(folder, wanted, request)
    if fault and request.download:
        with _fetching(request.where, folder):
            of(folder, download=True, **arguments)
        fault = _fault(folder, wanted, request)
    if fault:
        raise fault
    try:
        return of(folder, download=False, **arguments)
    except Exception as error:  # files cut short or of another kind make it raise a dozen unrelated types
        raise source_errors.unreadable_data_set(request.where, folder.absolute(), _reason(error)) from error


def _fault(folder: Path, files: Sequence[tuple[str, str | None]], request: Request) -> DataError | None:
    """The first of the files that is missing or another."""
    from torchvision.datasets.utils import check_integrity

    for file, md5 in files:
        if not os.path.exists(folder / file):
            return source_errors.missing_data_set(request.where, folder.absolute(), file, request.source, VARIABLE)
        if md5 is not None and not check_integrity(folder / file, md5):
            return source_errors.foreign_file(request.where, (folder / file).absolute())
    return None


@contextmanager
def _fetching(where: str, folder: Path) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(before or SILENCE)
    try:
        yield
    except Exception as error:  # of the network, of the disk, of files that are broken, of gdown
        if isinstance(error.__context__, ModuleNotFoundError):
            raise source_errors.download_needs(where, error.__context__.name or "another library") from error
        raise source_errors.download_failed(where, folder.absolute(), _reason(error)) from error
    finally:
        socket.setdefaulttimeout(before)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)[:300]}" if lines else type(error).__name__
