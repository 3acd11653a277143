"""The csv files beside a clip's pictures: numbers, one row a frame, no header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from labkit.errors import DataError


def read_table(file: Path, columns: int, rows: int | None = None) -> Float32[np.ndarray, " *shape"]:
    """Reads a csv of numbers without a header.

    Args:
        file: the csv file.
        columns: number of columns it must have.
        rows: number of rows it must have; None takes any but 0.

    Raises:
        DataError: another shape, or a cell that is not a finite number of float32's range.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("is not a text file", file=file, mend="extract it again") from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=file) from None
    lines = text.rstrip().split("\n") if text.strip() else []
    values = [_read_row(line, columns, file, row) for row, line in enumerate(lines, start=1)]
    if not values:
        raise DataError("is empty", file=file, mend="extract it again")
    if rows is not None:
        check_rows(file, len(values), rows)
    table = to_float32(np.array(values))
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        what = f"{lines[row].split(',')[column].strip()[:40]} is not finite"
        mend = "only finite numbers of float32's range are allowed"
        raise DataError(what, file=file, row=int(row) + 1, mend=mend)
    return table


def to_float32(values: np.ndarray) -> Float32[np.ndarray, " *shape"]:
    """The nearest float32 numbers; those beyond its range become infinite, without a warning."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def check_rows(file: Path, rows: int, frames: int) -> None:
    """Raises DataError unless the csv has as many rows as its clip has frames."""
    if rows != frames:
        what = f"has {rows} rows for {frames} frames"
        row = min(rows, frames) + 1
        raise DataError(what, file=file, row=row, mend="every frame needs one row")


def _read_row(line: str, columns: int, file: Path, row: int) -> list[float]:
    cells = line.split(",")
    if len(cells) != columns:
        mend = f"expected {columns} numbers with commas between them"
        raise DataError(f"has {len(cells)} columns", file=file, row=row, mend=mend)
    values = []
    for cell in cells:
        try:
            values.append(float(cell.replace("_", "?")))  # Python would read 1_0 as 10
        except ValueError:
            mend = "only numbers are allowed, without a header"
            what = f"{cell.strip()[:40]!r} is not a number"
            raise DataError(what, file=file, row=row, mend=mend) from None
    return values


def write_table(file: Path, values: Float32[np.ndarray, " *shape"]) -> None:
    """Writes a csv from which `read_table` reads exactly the same float32 numbers."""
    # Nine significant digits tell any two float32 numbers apart.
    np.savetxt(file, values, fmt="%.9g", delimiter=",", encoding="utf-8")
