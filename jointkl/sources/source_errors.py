"""Every mistake with a source that is built in, by name. `where` is the law and the source that it is bound to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from jointkl.diagnostics import DataError, did_you_mean
from jointkl.semantics.catalogue import Option
from jointkl.sources.errors import Place, listed

# --- options


def unknown_source(source: str, known: Iterable[str]) -> DataError:
    names = list(known)
    return DataError(f"there is no source `{source}`", *did_you_mean(source, names), "sources: " + listed(names))


def unknown_option(where: str, option: str, known: Sequence[str]) -> DataError:
    options = "its options: " + listed(known) if known else "it has no options"
    return DataError(f"{where}: no option `{option}`", *did_you_mean(option, known), options)


def wrong_option(where: str, option: Option, expected: str, value: object) -> DataError:
    return DataError(
        f"{where}: option `{option.name}`: expected {expected}; found {value!r}",
        *did_you_mean(str(value), option.choices),
        f"left out, it is {option.default}",
    )


def missing_option(where: str, option: Option) -> DataError:
    return DataError(f"{where}: option `{option.name}` is missing", f"give {option.name}=..., {option.about}")


# --- data sets that are downloaded


def missing_data_set(where: str, root: Path, file: str, source: str, variable: str) -> DataError:
    return DataError(
        f"{where}: expected the data set in {root}; found no {file} there",
        "--download fetches it: jointkl train SPEC --download, or jointkl.train(..., download=True)",
        f'if it lies elsewhere, say where: {source}(root="FOLDER"), or the environment variable {variable}',
    )


def foreign_file(where: str, file: Path) -> DataError:
    return DataError(
        f"{where}: {file} is not the file that belongs there: its checksum is another",
        "it is not opened; delete it, and fetch it anew with --download",
    )


def unreadable_data_set(where: str, root: Path, reason: str) -> DataError:
    return DataError(
        f"{where}: the data set in {root} cannot be read ({reason})",
        "delete its files, and fetch them anew with --download",
    )


def other_images(where: str, root: Path, expected: str, found: str) -> DataError:
    return DataError(
        f"{where}: expected {expected} in {root}; found {found}",
        "these are files of another data set; delete them, and fetch the right ones with --download",
    )


def download_failed(where: str, root: Path, reason: str) -> DataError:
    return DataError(
        f"{where}: the download to {root} failed: {reason}",
        "try again later, or copy the files there from a machine that has them",
    )


def download_needs(where: str, library: str) -> DataError:
    return DataError(f"{where}: its download needs {library}", f"install it: uv pip install {library}")


# --- folders of images


def no_folder(where: str, folder: Path) -> DataError:
    return DataError(
        f"{where}: expected a folder of images; {folder} is {'no folder' if os.path.exists(folder) else 'not there'}",
        "check the path; it is read from where the program runs",
    )


def unreadable_folder(where: str, folder: Path, reason: str) -> DataError:
    return DataError(f"{where}: the folder {folder} cannot be read ({reason})", "see who may read it, or move it away")


def no_images(where: str, folder: Path, endings: Iterable[str]) -> DataError:
    return DataError(
        f"{where}: expected images in {folder} or below it; found none",
        f"images are files ending in {', '.join(endings)}",
    )


def no_classes(where: str, folder: Path, image: str) -> DataError:
    return DataError(
        f"{where}: expected a folder for each class in {folder}; found {image}, which lies in none",
        "put the images of a class into a folder of their own, or bind the images alone: data(x) = images(..)",
    )


def empty_class(where: str, folder: Path) -> DataError:
    return DataError(
        f"{where}: the folder {folder} would be a class, and holds no image", "remove it, or put its images there"
    )


def broken_image(where: str, image: str, reason: str) -> DataError:
    return DataError(f"{where}: {image} cannot be read as an image ({reason})", "replace it or take it away")


def deep_image(where: str, image: str, mode: str) -> DataError:
    return DataError(
        f"{where}: {image} has more than 8 bits a pixel and channel (mode {mode})",
        "save it with 8 bits, or give arrays: evidence(), and --data LABEL=FILE.npy",
    )


def small_image(where: str, image: str, found: tuple[int, int], crop: tuple[int, int]) -> DataError:
    return DataError(
        f"{where}: {image} is {_size(found)}, smaller than crop asks for, {_size(crop)}", "give a smaller crop"
    )


def uneven_image(where: str, image: str, found: tuple[int, int], first: str, expected: tuple[int, int]) -> DataError:
    return DataError(
        f"{where}: {image} is {_size(found)}, and the first, {first}, {_size(expected)}",
        "say which size all are scaled to: size=64, or size=[height, width]",
    )


def _size(size: tuple[int, int]) -> str:
    height, width = size
    return f"{height} high and {width} wide"


# --- tables


def missing_library(where: str, what: str, library: str, extra: str) -> DataError:
    return DataError(f"{where}: {what} need {library}", f"install it: uv pip install 'jointkl[{extra}]'")


def not_a_number_column(place: Place, column: str, kind: str) -> DataError:
    return DataError(
        f"{place}: expected numbers for {place.wanted}; found column `{column}` of type {kind}",
        "name the columns that are meant as the variables (`x`, or `x0, x1`): others are left out",
    )


def empty_cell(place: Place, column: str, row: int) -> DataError:
    return DataError(
        f"{place}: expected numbers for {place.wanted}; found nothing in column `{column}`, row {row} (counted from 0)",
        "leave out or fill in the rows that lack a value",
    )


def uneven_list(place: Place, column: str, row: int, found: int, width: int) -> DataError:
    return DataError(
        f"{place}: expected {width} numbers in every row of column `{column}`, as in the first; "
        f"found {found} in row {row} (counted from 0)",
        "give every row as many numbers",
    )


# --- files of ours


def damaged_copy(where: str, path: Path, error: Exception) -> DataError:
    return DataError(f"{where}: {path}, a copy of its rows, is damaged ({error})", "delete it: it is made anew")


def cannot_keep(where: str, folder: Path, error: OSError, variable: str) -> DataError:
    return DataError(
        f"{where}: a copy of its rows, to be mapped, cannot be written to {folder}: {error.strerror or error}",
        f"make room there, or name another folder by the environment variable {variable}",
    )
