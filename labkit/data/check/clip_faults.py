"""All that is wrong with one clip's folder, where reading it stops at the first fault."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from labkit.data import layout
from labkit.data.layout.pictures import read_picture
from labkit.data.layout.tables import parse_table
from labkit.errors import DataError


def all_faults(folder: Path, first: DataError) -> list[DataError]:
    """Every fault of a clip that can be found without the others being mended.

    Each picture and each csv is read by itself, so that a bad row and a truncated picture of one
    clip are two faults; of one file the first fault is reported.

    Args:
        folder: the clip's folder.
        first: what `layout.read_clip` said of it; it is among the faults that are returned.
    """
    try:
        names = sorted(entry.name for entry in layout.scan(folder))
    except DataError:
        return [first]
    blamed = "" if first.file is None else Path(first.file).name
    pictures = layout.numbered_frames(names)
    sizes: dict[str, tuple[int, int]] = {}
    gaps = [*_missing(folder, pictures)]
    found = [*_unreadable(folder, pictures, sizes), *gaps]
    if len(set(sizes.values())) > 1:
        if blamed in sizes:
            first = _several_sizes(folder, sizes)  # reading compares with the first frame alone
        else:
            found.append(_several_sizes(folder, sizes))
    missing = gaps or (layout.FRAME.fullmatch(blamed) and blamed not in pictures)
    frames = None if missing or not pictures else len(set(pictures.values()))
    # Where frames are missing, that a table has more rows than frames is no second fault.
    found += _bad_tables(folder, names, frames)
    faulty_files = {fault.file for fault in found}
    return found if first.file in faulty_files else [first, *found]


def _unreadable(
    folder: Path, pictures: Mapping[str, int], sizes: dict[str, tuple[int, int]]
) -> Iterator[DataError]:
    """Pictures that cannot be read; of the others the size goes to `sizes` as (width, height)."""
    for name in sorted(pictures, key=lambda name: (pictures[name], name)):
        try:
            _, height, width = read_picture(folder / name).shape
        except DataError as fault:
            yield fault
        else:
            sizes[name] = (width, height)


def _missing(folder: Path, pictures: Mapping[str, int]) -> Iterator[DataError]:
    """One fault for each gap in the pictures' numbers."""
    numbers = sorted(set(pictures.values()))
    for before, after in itertools.pairwise(numbers):
        if after > before + 1:
            like = next(iter(pictures))
            last = layout.name_like(like, after - 1)
            last = f" (and all up to {last})" if after > before + 2 else ""
            hint = "extract the clip again, or remove its folder"
            file = folder / layout.name_like(like, before + 1)
            yield DataError(f"frame is missing{last}", file=file, hint=hint)


def _several_sizes(folder: Path, sizes: Mapping[str, tuple[int, int]]) -> DataError:
    (w, h), _ = Counter(sizes.values()).most_common(1)[0]
    odd = [name for name, size in sizes.items() if size != (w, h)]
    (width, height), more = sizes[odd[0]], f" (and {len(odd) - 1} more)" if odd[1:] else ""
    what = f"is {width}x{height} where most frames are {w}x{h}{more}"
    hint = "all frames of a clip must have one size: extract it again"
    return DataError(what, file=folder / odd[0], hint=hint)


def _bad_tables(folder: Path, names: list[str], frames: int | None) -> Iterator[DataError]:
    """The csv files that are no table of their kind, or have not a row for each of `frames`."""
    for name in names:
        kind = layout.table_kind(name)
        if kind is None:
            continue
        try:
            table = parse_table(folder / name)
            one_fewer = kind == "actions" and frames is not None and len(table.values) == frames - 1
            if frames is not None and not one_fewer:
                table.check_rows(frames)
        except DataError as fault:
            yield fault
