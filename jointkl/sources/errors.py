"""Every mistake in data, by name: what was expected, what was found, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from jointkl.diagnostics import DataError, did_you_mean
from jointkl.semantics.spaces import Space


@dataclass(frozen=True, slots=True)
class Place:
    """Where data are wrong: the law, what they were read from, its variables, and the one at fault if it is known.

    `scaled`: whether what they were read from gives images of any size that is asked for.
    """

    law: str
    origin: str
    outputs: tuple[tuple[str, Space], ...]
    variable: str = ""
    scaled: bool = False

    def of(self, variable: str) -> Place:
        return replace(self, variable=variable)

    def reading(self, origin: str) -> Place:
        return replace(self, origin=origin)

    def only(self, variable: str) -> Place:
        """Where the rows of one variable alone are read."""
        return replace(self, outputs=tuple((name, space) for name, space in self.outputs if name == variable))

    def chosen(self, names: Iterable[str]) -> tuple[str, ...]:
        """Of the arrays found those that the law takes: its variables', or a single one under another name, for all
        variables. Raises `DataError` for others."""
        found = tuple(names)
        if set(self.names) <= set(found):
            return self.names
        if len(found) > 1 or set(found) & set(self.names) or not found:
            raise wrong_names(self, found)
        return found

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.outputs)

    @property
    def wanted(self) -> str:
        """The variable's space, or all variables with theirs."""
        chosen = [(n, s) for n, s in self.outputs if self.variable in ("", n)]
        return ", ".join(f"`{name}: {space}`" for name, space in chosen)

    def __str__(self) -> str:
        return f"{f'`{self.variable}` of ' if self.variable else ''}`{self.law}`, from {self.origin}"


def _wrong(place: Place, expected: str, found: str, *help: str) -> DataError:
    return DataError(f"{place}: expected {expected}; found {found}", *help)


# --- which data belong to which law


def no_data(law: str, key: str, place: Place) -> DataError:
    shell = f"'{key}=FILE'" if "(" in key else f"{key}=FILE"
    return DataError(
        f"`{law}` has no data: expected rows for {place.wanted}; found nothing given",
        f"name a file (.npy, .npz, .csv, .parquet): --data {shell}",
        f'or, from Python, give an array, tensor or Dataset: {{"{law}": rows}}',
    )


def not_a_mapping(value: object, laws: Sequence[str]) -> DataError:
    example = laws[0] if laws else "data(x)"
    return DataError(
        f"data: expected a dict from law to rows; found {kind_of(value)}",
        f'write {{"{example}": rows}}; {_evidence(laws)}',
    )


def unknown_law(key: object, laws: Sequence[str], labels: Iterable[str]) -> DataError:
    guess = did_you_mean(str(key), [*laws, *labels])
    return DataError(f"data for `{key}`: no evidence of the spec has this name", *guess, _evidence(laws))


def marginal_law(key: str, rows: str) -> DataError:
    return DataError(
        f"data for `{key}`: it is the marginal of `{rows}`, whose rows it shares", f"give data for `{rows}`"
    )


def ambiguous_label(label: str, laws: Sequence[str]) -> DataError:
    return DataError(f"data for `{label}`: several laws have this label", "name one of them: " + listed(laws))


def given_twice(law: str, first: str, second: str) -> DataError:
    return DataError(f"data for `{law}`: given twice, as `{first}` and as `{second}`", "leave one out")


# --- files


def missing_file(place: Place) -> DataError:
    return _wrong(
        place, f"a file with {place.wanted}", "no such file", "check the path; it is read from where the program runs"
    )


def unknown_suffix(place: Place, suffix: str, known: Iterable[str]) -> DataError:
    return _wrong(
        place,
        f"a file ending in {', '.join(known)}",
        f"{suffix or 'no ending'}",
        "convert it with numpy.save or numpy.savez",
    )


def folder_given(place: Place) -> DataError:
    return _wrong(
        place,
        f"a file with {place.wanted}",
        "a folder",
        f'if it holds images, name it in the spec: {place.law} = images("{place.origin}")',
    )


def unreadable_file(place: Place, suffix: str, reason: str) -> DataError:
    mend = "numpy.save and numpy.savez of plain numbers are read, pickled objects never"
    return _wrong(
        place,
        f"a readable {suffix} file with {place.wanted}",
        f"bytes that cannot be read so ({reason})",
        "write it again, in UTF-8" if suffix == ".csv" else f"write it again; {mend}",
    )


def bad_cell(place: Place, row: int, line: int, column: int, cell: str) -> DataError:
    what = f"`{cell}`" if cell else "an empty cell"
    return _wrong(
        place,
        f"numbers for {place.wanted}",
        f"{what} in row {row}, column {column} (counted from 0; line {line} of the file)",
        "write numbers separated by commas; a header may stand in the first line, and has no numbers",
    )


def ragged_line(place: Place, row: int, line: int, cells: int, width: int) -> DataError:
    return _wrong(
        place,
        f"{width} cells in every row, as in the first",
        f"{cells} in row {row} (counted from 0; line {line} of the file)",
        "give every row the same number of cells",
    )


# --- Python objects


def not_numbers(place: Place, found: str) -> DataError:
    return _wrong(place, f"real numbers for {place.wanted}", found, "give a dense tensor or array of numbers")


def iterable_dataset(place: Place) -> DataError:
    return _wrong(
        place,
        "a map-style Dataset, which has a length",
        "one without a length",
        "give one with `__len__` and `__getitem__`, or collect the items into a .npy file, which is mapped",
    )


def failing_item(place: Place, item: int, reason: str) -> DataError:
    return _wrong(
        place, f"items with {place.wanted}", f"that item {item} of the Dataset fails: {reason}", "mend the Dataset"
    )


def uneven_item(place: Place, item: int, found: str, first: str) -> DataError:
    return _wrong(
        place,
        f"items like the first: {first}",
        f"item {item} of the Dataset: {found}",
        "give all items the same parts and shapes",
    )


# --- columns and values


def wrong_count(place: Place, found: int) -> DataError:
    return _wrong(
        place,
        f"{_count(len(place.outputs), 'array')}, for {place.wanted}",
        _count(found, "array"),
        "give one array per variable, in the law's order; rows in a list are stacked first (torch.stack)",
    )


def wrong_names(place: Place, names: Iterable[object]) -> DataError:
    known = [str(name) for name in names]
    missing = next((name for name in place.names if name not in known), place.names[0])
    return _wrong(
        place,
        f"arrays named after the variables, {place.wanted}",
        listed(known) or "no array",
        *did_you_mean(missing, known),
        "save them by name: numpy.savez(file, " + ", ".join(f"{n}=..." for n in place.names) + ")",
    )


def clashing_header(place: Place, column: str, variable: str) -> DataError:
    return _wrong(
        place,
        f"a header that names the columns of {place.wanted}, or none of them",
        f"column `{column}` where `{variable}` would be read by position",
        "name all columns by their variable (`x0, x1, t`), or put them in the law's order",
    )


def wrong_total(place: Place, shape: Sequence[int]) -> DataError:
    total = sum(space.size for _, space in place.outputs)
    return _wrong(
        place,
        f"rows of {_count(total, 'number')}, for {place.wanted}",
        f"an array of shape {tuple(shape)}",
        "give each variable its own array, or as many columns as all of them are wide together",
    )


def wrong_width(place: Place, space: Space, shape: Sequence[int], width: int) -> DataError:
    if space.kind == "finite":
        mend = "give one value a row, not one-hot rows (`rows.argmax(1)` if the values count from 0)"
    else:
        declared = f"[{','.join(map(str, shape[1:]))}]" if len(shape) > 1 else ""
        mend = f"declare `var {place.variable}: {space.kind}{declared}`, or give {_count(space.size, 'number')} a row"
    return _wrong(
        place,
        f"{space}, {_count(space.size, 'number')} a row",
        f"{_count(width, 'number')} a row (shape {tuple(shape)})",
        mend,
        *((f"or have the images scaled: size={_side(space)}",) if place.scaled and len(space.dims) == 3 else ()),
    )


def _side(image: Space) -> str:
    """The size of an image (C, H, W) as the option `size` says it."""
    _, height, width = image.dims
    return f"{height}" if height == width else f"[{height}, {width}]"


def moved_axes(place: Place, space: Space, shape: Sequence[int]) -> DataError:
    return _wrong(
        place,
        f"{space}, rows of shape {space.shape}",
        f"rows of shape {tuple(shape[1:])}, the same axes in another order",
        "permute the axes; of images the channels come first: `rows.transpose(0, 3, 1, 2)`",
    )


def no_rows(place: Place, shape: Sequence[int]) -> DataError:
    what = f"none (shape {tuple(shape)})" if shape else "a single number"
    return _wrong(place, f"rows of {place.wanted}", what, "give at least one row; the first axis counts them")


def unequal_lengths(place: Place, lengths: Iterable[tuple[str, int]]) -> DataError:
    found = ", ".join(f"{count} of `{name}`" for name, count in lengths)
    return _wrong(
        place, "as many rows of every variable", found, "row i of each belongs together: leave out what has no partner"
    )


def wrong_value(place: Place, expected: str, value: str, position: tuple[int, ...], row: int, mend: str) -> DataError:
    at = f" at [{', '.join(map(str, position))}]" if position else ""
    return _wrong(place, expected, f"{value}{at} in row {row} (counted from 0)", mend)


# --- wording


def kind_of(value: object) -> str:
    """What a Python object is, in a message."""
    return f"`{type(value).__name__}`"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _evidence(laws: Sequence[str]) -> str:
    return f"evidence of the spec: {listed(laws)}" if laws else "the spec has no evidence"
