"""`labkit data check`: read a whole data set once and say what it holds and what is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from labkit.data import layout
from labkit.data.clip import ACTION_COLUMNS, POSITION_COLUMNS, Clip
from labkit.data.pack import is_pack, open_pack
from labkit.errors import DataError


@dataclass
class ColumnStatistics:
    """Mean, standard deviation and range of the columns of a table, gathered row by row."""

    columns: tuple[str, ...]
    rows: int = 0
    total: np.ndarray = field(init=False)
    """sums (C,)"""
    squares: np.ndarray = field(init=False)
    """sums of squares (C,)"""
    low: np.ndarray = field(init=False)
    high: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.columns)
        self.total, self.squares = np.zeros(count), np.zeros(count)
        self.low, self.high = np.full(count, np.inf), np.full(count, -np.inf)

    def add(self, values: np.ndarray) -> None:
        """Takes in rows (T, C)."""
        wide = values.astype(np.float64)
        self.rows += len(wide)
        self.total += wide.sum(0)
        self.squares += (wide**2).sum(0)
        self.low = np.minimum(self.low, wide.min(0))
        self.high = np.maximum(self.high, wide.max(0))

    @property
    def mean(self) -> np.ndarray:
        """Mean of each column (C,)."""
        return self.total / max(self.rows, 1)

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of each column (C,)."""
        return np.sqrt(np.maximum(self.squares / max(self.rows, 1) - self.mean**2, 0))


@dataclass
class SplitReport:
    """What one split holds. Clips that cannot be read count, but give no figures."""

    clips: int = 0
    with_positions: int = 0
    shapes: dict[tuple[int, int, int], int] = field(default_factory=dict)
    """clips of each (frames, height, width)"""
    conditions: dict[str, ColumnStatistics] = field(
        default_factory=lambda: {
            "action": ColumnStatistics(ACTION_COLUMNS),
            "position": ColumnStatistics(POSITION_COLUMNS),
        }
    )

    def add(self, clip: Clip) -> None:
        """Takes in one clip."""
        frames, _, height, width = clip.frames.shape
        shape = (frames, height, width)
        self.shapes[shape] = self.shapes.get(shape, 0) + 1
        self.conditions["action"].add(clip.actions)
        if clip.positions is not None:
            self.with_positions += 1
            self.conditions["position"].add(clip.positions)


@dataclass
class CheckReport:
    """The outcome of `check`: figures for each split, and every fault with its mend."""

    root: Path
    splits: dict[str, SplitReport] = field(default_factory=dict)
    faults: list[DataError] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is broken."""
        return not self.faults

    def text(self) -> str:
        """The report as plain text, for a terminal."""
        return render(self)


def check(root: Path | str, progress: bool = False) -> CheckReport:
    """Reads every clip of a data set (the course layout, or a pack) once.

    Faults do not stop it: they are collected. A pack's files are compared with their digests too.

    Args:
        root: the data set's folder.
        progress: show a progress bar for each split.

    Raises:
        DataError: there is no data set at `root` at all.
    """
    root = Path(root)
    report = CheckReport(root)
    for split, readers in _readers(root, report.faults):
        found = report.splits.setdefault(split, SplitReport())
        for read in tqdm(readers, desc=f"checking {split}", unit="clip", disable=not progress):
            found.clips += 1
            try:
                found.add(read())
            except DataError as fault:
                report.faults.append(fault)
        report.faults += _unlike(root, split, found)
    return report


def _readers(root: Path, faults: list[DataError]) -> Iterator[tuple[str, list[Callable[[], Clip]]]]:
    """For each split, one function a clip that reads it."""
    if is_pack(root):
        pack = open_pack(root)
        faults.extend(pack.faults())
        for name in pack.splits:
            split = pack.split(name)
            yield name, [lambda s=split, i=i: s.clip(i) for i in range(len(split))]
        return
    for name in layout.splits(root):
        folders = layout.clip_folders(root, name)
        yield name, [lambda f=folder: layout.read_clip(f) for folder in folders]


def _unlike(root: Path, split: str, found: SplitReport) -> Iterator[DataError]:
    """Faults of a split as a whole: its clips must be alike."""
    where = root / split
    if len(found.shapes) > 1:
        kinds = ", ".join(f"{n} of {t} frames {w}x{h}" for (t, h, w), n in found.shapes.items())
        mend = "all clips of a split must have one length and size"
        yield DataError(f"clips differ: {kinds}", file=where, mend=mend)
    readable = sum(found.shapes.values())
    if 0 < found.with_positions < readable:
        what = f"{readable - found.with_positions} of {readable} clips have no positions"
        mend = "add them, or remove the positions of all and set data.condition=action"
        yield DataError(what, file=where, mend=mend)


def render(report: CheckReport) -> str:
    """A check's report as plain text: a line a split, a line a column, a line a fault."""
    lines = [f"{report.root}", "", f"{'split':<10} {'clips':>6} {'readable':>8}  frames and size"]
    for name, split in report.splits.items():
        shapes = ", ".join(f"{t} x {w}x{h}" for t, h, w in split.shapes) or "-"
        readable = sum(split.shapes.values())
        lines.append(f"{name:<10} {split.clips:>6} {readable:>8}  {shapes}")
    head = f"{'split':<10} {'column':<14} {'mean':>9} {'std':>9} {'min':>9} {'max':>9}"
    lines += ["", head]
    for name, split in report.splits.items():
        for kind, table in split.conditions.items():
            lines += _column_lines(name, kind, table)
    lines.append("")
    lines += [f"fault: {fault}" for fault in report.faults]
    count = len(report.faults)
    lines.append("no faults" if not count else f"{count} fault{'s' if count > 1 else ''}")
    return "\n".join(lines)


def _column_lines(split: str, kind: str, table: ColumnStatistics) -> list[str]:
    if not table.rows:
        return [f"{split:<10} no {kind}s"]
    figures = zip(table.columns, table.mean, table.std, table.low, table.high, strict=True)
    return [
        f"{split:<10} {column:<14} {mean:>9.4f} {std:>9.4f} {low:>9.4f} {high:>9.4f}"
        for column, mean, std, low, high in figures
    ]
