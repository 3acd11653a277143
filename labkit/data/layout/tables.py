"""The csv files beside a clip's pictures: numbers, one row a frame."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from labkit.data.layout.plain_files import read_plain
from labkit.errors import DataError

MOST_BYTES = 1 << 24
"""bytes a csv may have: 30 rows of 4 numbers need about 2,000"""

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BLANK = " \t\r\v\f"


@dataclass(frozen=True)
class Table:
    """The numbers of a csv and where they stand in it."""

    file: Path
    values: Float32[np.ndarray, "R C"]
    first_row: int
    """row of the file, counted from 1, that holds the first numbers: 2 below a header"""
    names: tuple[str, ...] | None = None
    """names of the columns, where the header has one for each"""

    def check_rows(self, frames: int) -> None:
        """Raises DataError unless there are as many rows as the clip has frames."""
        self.check_top(frames)
        rows = len(self.values)
        if rows != frames:
            below = " below its header" if self.first_row > 1 else ""
            what = f"has {rows_of(rows)}{below} for {frames} frames"
            row = min(rows, frames) + self.first_row
            raise DataError(what, file=self.file, row=row, hint=rows_hint(rows, frames))

    def check_top(self, frames: int) -> None:
        """Raises DataError where one row is too many and the first only numbers the columns."""
        rows, columns = self.values.shape
        counted = self.first_row == 1 and (self.values[0] == np.arange(columns)).all()
        if rows == frames + 1 and counted:
            what = f"has {rows_of(rows)} for {frames} frames"
            hint = "row 1 looks like pandas' numbers of the columns: write with header=False"
            raise DataError(what, file=self.file, row=1, hint=hint)


def rows_of(count: int) -> str:
    """A number of rows in words: 1 row, 2 rows."""
    return f"{count} row{'' if count == 1 else 's'}"


def rows_hint(rows: int, frames: int) -> str:
    """What is wrong with a csv that has not as many rows as its clip has frames."""
    if rows < frames:
        return f"every frame needs one row: {rows_of(frames - rows)} missing"
    return f"every frame needs one row: {rows_of(rows - frames)} too many"


def read_table(file: Path, rows: int | None = None) -> Float32[np.ndarray, "R C"]:
    """The numbers of a csv, by the rules of `parse_table`.

    Args:
        file: the csv file.
        rows: number of rows it must have; None takes any but 0.

    Raises:
        DataError: as `parse_table`, or another number of rows.
    """
    table = parse_table(file)
    if rows is not None:
        table.check_rows(rows)
    return table.values


def parse_table(file: Path) -> Table:
    """Reads a csv of numbers: finite, within float32's range, the same number in each row.

    Taken as the same thing: a header in row 1 (known by holding no number at all; it names the
    columns), commas, semicolons, tabs or blanks between the numbers (row by row the same), blanks
    around them, one separator too many at the end of a row, line ends of any system, blank
    lines at the end, and UTF-8 or UTF-16 with a byte-order mark.

    Raises:
        DataError: anything else; it says the row, counted as an editor counts.
    """
    lines = _lines(file)
    if not lines:
        raise DataError("is empty", file=file, hint="extract it again")
    first = int(_is_header(lines[0]))
    if len(lines) == first:
        raise DataError("holds a header and no numbers", file=file, row=1, hint="extract it again")
    separator = _separator(lines[first], file, first + 1)
    header = _header_names(lines[0], separator) if first else None
    counts = [len(_trimmed(line.split(separator))) for line in lines[first:]]
    columns = len(header) if header and len(header) in counts else counts[0]
    cells = [_split(line, separator, columns) for line in lines[first:]]
    _refuse_index(cells, header, file, first + 1)
    header = header if header and all(header) and len(header) == columns else None
    values = [_numbers(row, columns, file, n) for n, row in enumerate(cells, start=first + 1)]
    table = to_float32(np.array(values))
    if not np.isfinite(table).all():
        row, column = (int(place) for place in np.argwhere(~np.isfinite(table))[0])
        what = f"{cells[row][column].strip()[:40]} is not finite"
        hint = "only finite numbers of float32's range are allowed"
        raise DataError(what, file=file, row=first + 1 + row, hint=hint)
    return Table(file, table, first + 1, header)


def to_float32(values: np.ndarray) -> Float32[np.ndarray, " *shape"]:
    """The nearest float32 numbers; those beyond its range become infinite, without a warning."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def write_table(
    file: Path, values: Float32[np.ndarray, " *shape"], names: Sequence[str] | None = None
) -> None:
    """Writes a csv from which `read_table` reads exactly the same float32 numbers; with a header
    where there are names."""
    header = "" if names is None else ",".join(names)
    # Nine significant digits tell any two float32 numbers apart.
    np.savetxt(
        file, values, fmt="%.9g", delimiter=",", encoding="utf-8", header=header, comments=""
    )


# ------------------------------------------------------------------------------- rows and cells


def _lines(file: Path) -> list[str]:
    """The lines of a text file, of any system, without the blank ones at its end."""
    data = read_plain(file, MOST_BYTES)
    try:
        text = data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        hint = "save it as csv with UTF-8, or extract it again"
        raise DataError("is not a text file", file=file, hint=hint)
    # A csv written in Windows' text mode twice over ends its lines with \r\r\n.
    text = text.replace("\r\r\n", "\n").replace("\r\n", "\n").replace("\r", "\n")
    text = text.rstrip("\n" + _BLANK)
    return text.split("\n") if text else []


def _is_header(line: str) -> bool:
    """Whether row 1 holds words and no number at all."""
    if not line.strip(_BLANK):
        return False
    separators = [s for s in ",;\t" if s in line]
    cells = line.split(separators[0]) if separators else line.split()
    return any(cell.strip() for cell in cells) and all(_number(cell) is None for cell in cells)


def _separator(line: str, file: Path, row: int) -> str | None:
    """What stands between the cells of the first row of numbers; None: blanks."""
    if ";" in line and "," in line:
        what = "has commas and semicolons"
        hint = "write decimal points, not commas, and one kind of separator"
        raise DataError(what, file=file, row=row, hint=hint)
    return next((separator for separator in ",;\t" if separator in line), None)


def _header_names(line: str, separator: str | None) -> tuple[str, ...] | None:
    """The names in a header, which may begin with numpy's `#`; None where they are not all there,
    or one stands twice."""
    cells = _trimmed(line.strip(_BLANK).removeprefix("#").split(separator))
    names = tuple(" ".join(cell.replace(",", " ").split()).strip("\"'") for cell in cells)
    return names if all(names[1:]) and len(set(names)) == len(names) else None


def _trimmed(cells: list[str]) -> list[str]:
    """Without the empty cell that a separator at the end of the row makes."""
    return cells[:-1] if len(cells) > 1 and not cells[-1].strip() else cells


def _split(line: str, separator: str | None, columns: int) -> list[str]:
    cells = line.split(separator)
    return _trimmed(cells) if len(cells) == columns + 1 else cells


def _number(cell: str) -> float | None:
    try:
        return float(cell) if "_" not in cell else None
    except ValueError:
        return None


def _numbers(cells: list[str], columns: int, file: Path, row: int) -> list[float]:
    """One row's numbers."""
    if not any(cell.strip() for cell in cells):
        raise DataError("is an empty row", file=file, row=row, hint="remove it, or fill it")
    try:
        values = [float(cell) for cell in cells]
    except ValueError:
        values = []
    if len(values) == columns and "_" not in "".join(cells):  # Python would read 1_0 as 10
        return values
    if len(cells) != columns:
        hint = f"expected {columns} numbers with commas between them, as in the rows before"
        raise DataError(f"has {_count(len(cells))}", file=file, row=row, hint=hint)
    wrong = next(cell for cell in cells if _number(cell) is None)
    hint = "only numbers are allowed, and a header only in row 1"
    what = f"{wrong.strip()[:40]!r} is not a number"
    raise DataError(what, file=file, row=row, hint=hint)


def _count(columns: int) -> str:
    return "1 column" if columns == 1 else f"{columns} columns"


def _refuse_index(
    cells: list[list[str]], names: tuple[str, ...] | None, file: Path, row: int
) -> None:
    """Raises DataError where every row begins with its own number, as pandas writes it: below a
    header with no name for it, or in three rows or more."""
    columns = len(cells[0])
    if columns < 2 or any(len(line) != columns for line in cells):
        return
    counted = [_number(line[0]) for line in cells]
    unnamed = names is not None and (len(names) == columns - 1 or not names[0])
    counts = counted in ([*range(len(cells))], [*range(1, len(cells) + 1)])
    if counts and (unnamed or len(cells) > 2):
        what = f"has {columns} columns, the first of which counts the rows"
        hint = "it looks like a pandas index: write with index=False"
        raise DataError(what, file=file, row=row, hint=hint)
