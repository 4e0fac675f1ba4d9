"""Images from the files of a folder. They are decoded where they are drawn."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from jointkl.diagnostics import DataError
from jointkl.semantics.catalogue import shape_of
from jointkl.sources import source_errors
from jointkl.sources.conversions import at_home, converted
from jointkl.sources.request import Request
from jointkl.sources.streams import Array, Index, Stream, chunks, from_bytes, held, places

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Of the files that are images: those that torchvision's folders know."""

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
"""What such a file may be, whatever its ending. PIL opens forty kinds, and has Ghostscript run what is PostScript."""

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True, slots=True)
class Look:
    """How images are seen: the centre of them cut out, what is left scaled to a size, in colour or grey.

    To be scaled, an image is first cut to the proportions of `size`, as little as need be on both sides.
    """

    crop: Size | None
    size: Size | None
    grey: bool

    @staticmethod
    def of(options: Mapping[str, Any]) -> Look:
        crop, size = (None if options[name] is None else shape_of(options[name]) for name in ("crop", "size"))
        return Look(crop, size, options["grey"])


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Images (C, H, W) in bytes, each opened and decoded when it is taken, several at once."""

    folder: Path
    names: Sequence[str]
    look: Look
    where: str
    size: Size

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Index) -> Tensor:
        rows = places(index, len(self)).tolist()
        found = np.empty((len(rows), 1 if self.look.grey else 3, *self.size), np.uint8)
        for place, image in enumerate(
            _decoders().map(self._decoded, rows) if len(rows) > 1 else map(self._decoded, rows)
        ):
            found[place] = image
        return torch.from_numpy(found)

    def _decoded(self, row: int) -> np.ndarray:
        found = decoded(self.folder, self.names[row], self.look, self.where)
        if found.shape[1:] != self.size:
            raise source_errors.uneven_image(self.where, self.names[row], found.shape[1:], self.names[0], self.size)
        return found


@cache
def _decoders() -> ThreadPoolExecutor:
    """PIL lets go of Python's lock while it decodes."""
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="decoder")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_decoders.cache_clear)  # a child has none of its parent's threads


def pictures(folder: Path, names: Sequence[str], look: Look, where: str, cache: bool) -> Stream:
    """Images (N, C, H, W) as numbers from 0 to 1, all of one size: in memory as bytes if they are few enough.

    With `cache` they are decoded once for all times into a file.
    """
    first = decoded(folder, names[0], look, where)
    shape = (len(names), *first.shape)
    stream = Stream(Pictures(folder, names, look, where, (shape[2], shape[3])), shape, torch.uint8)
    if cache:
        blocks = (rows.numpy() for _, rows in chunks(stream))
        array = converted(where, [repr(look), *_stamps(folder, names)], lambda: blocks)
    else:
        array = held(stream)
    return from_bytes(array)


def decoded(folder: Path, name: str, look: Look, where: str) -> np.ndarray:
    """An image in bytes (C, H, W). Raises `DataError` for one that cannot be seen as asked."""
    from PIL import Image, ImageOps
    from PIL.Image import Resampling

    try:
        with Image.open(folder / name, formats=FORMATS) as file:
            if file.mode.startswith(("I", "F")):
                raise source_errors.deep_image(where, name, file.mode)
            image = ImageOps.exif_transpose(file).convert("L" if look.grey else "RGB")
        if look.crop is not None:
            image = _centre(image, look.crop, where, name)
        if look.size is not None and (image.height, image.width) != look.size:
            height, width = look.size
            image = ImageOps.fit(image, (width, height), Resampling.BILINEAR)
        pixels = np.array(image)
    except DataError:
        raise
    except Exception as error:  # broken bytes make PIL raise a dozen unrelated types
        reason = str(error).split("\n", 1)[0]
        raise source_errors.broken_image(where, name, f"{type(error).__name__}: {reason}") from error
    return pixels[None] if look.grey else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _centre(image: Image, crop: Size, where: str, name: str) -> Image:
    height, width = crop
    if image.height < height or image.width < width:
        raise source_errors.small_image(where, name, (image.height, image.width), crop)
    top, left = (image.height - height) // 2, (image.width - width) // 2
    return image.crop((left, top, left + width, top + height))


def images(request: Request) -> tuple[Array, ...]:
    """The images below a folder (N, C, H, W) from 0 to 1, in the order of their paths, and their classes (N,).

    A class is a folder in the folder, counted from 0 in the order of their names.
    """
    folder = at_home(request.options["folder"])
    names = _names(folder, request.where)
    found = pictures(folder, names, Look.of(request.options), request.where, request.options["cache"])
    return (found, _classes(folder, names, request.where)) if 1 in request.columns else (found,)


def _names(folder: Path, where: str) -> list[str]:
    """The images below a folder, as paths from it, sorted; hidden files are none."""
    if not os.path.isdir(folder):
        raise source_errors.no_folder(where, folder.absolute())
    found = sorted(path.relative_to(folder).as_posix() for path in _below(folder, where))
    if not found:
        raise source_errors.no_images(where, folder.absolute(), ENDINGS)
    return found


def _below(folder: Path, where: str, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """The images in a folder and in its folders; `above` are those that the walk came through, where no link leads
    back to. What is no regular file, as a pipe, is no image."""
    here = folder.resolve()
    if here in above:
        return
    try:
        entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
        modes = [_mode(path) for path in entries]
    except OSError as error:
        raise source_errors.unreadable_folder(where, folder.absolute(), error.strerror or str(error)) from None
    for path, mode in zip(entries, modes, strict=True):
        if stat.S_ISDIR(mode):
            yield from _below(path, where, above | {here})
        elif stat.S_ISREG(mode) and path.suffix.lower() in ENDINGS:
            yield path


def _mode(path: Path) -> int:
    """What a path is; 0 if it is a link that leads nowhere."""
    try:
        return path.stat().st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return 0
        raise


def _classes(folder: Path, names: Sequence[str], where: str) -> Tensor:
    loose = next((name for name in names if "/" not in name), None)
    if loose is not None:
        raise source_errors.no_classes(where, folder.absolute(), loose)
    known = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    of = [name.partition("/")[0] for name in names]
    for name in set(known).difference(of):
        raise source_errors.empty_class(where, folder.absolute() / name)
    number = {name: i for i, name in enumerate(known)}
    return torch.tensor([number[name] for name in of])


def _stamps(folder: Path, names: Sequence[str]) -> list[str]:
    """What tells the files of a folder from others, or from themselves after a change."""
    base = str(folder.resolve())
    status = ((name, (folder / name).stat()) for name in names)
    return [base, *(f"{name} {s.st_size} {s.st_mtime_ns} {s.st_ctime_ns}" for name, s in status)]
