"""What `check` found in a data set: figures a split and a column, faults, notes; and its text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from labkit.config import DataConfig
from labkit.data.clip import FRAME_SIZES, Clip, column_names
from labkit.data.pack import is_pack
from labkit.errors import DataError

SHOWN = 50
"""faults that the text spells out; the report holds them all"""

MODEL_SIZE = 64
"""height and width of the frames that the model takes"""

WINDOW = DataConfig().n_frames
"""frames that a clip needs where nothing else is asked for: the context and the horizon"""

TYPICAL = {
    "dx": (-0.07, 0.07),
    "dy": (-0.07, 0.07),
    "close_gripper": (0.0, 3.0),
    "lift": (0.0, 1.0),
}
"""Range of each action column in the few real BAIR clips that were looked at, rounded up. Its
positions were not seen, so nothing is said of them."""


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

    def add(self, values: Float32[np.ndarray, "T C"]) -> None:
        """Takes in rows."""
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


class Columns(NamedTuple):
    """The columns of a clip's table."""

    count: int
    names: tuple[str, ...] | None
    """where the source gives them"""

    def of(self, kind: str) -> tuple[str, ...]:
        """Their names, as a table of actions or positions."""
        return column_names(kind, self.count, self.names)

    def differs_from(self, other: Columns) -> bool:
        """Whether they are others: another number, or other names where both have names."""
        named = self.names is not None and other.names is not None
        return self.count != other.count or (named and self.names != other.names)


class Kind(NamedTuple):
    """What must be the same for all clips of a split."""

    height: int
    width: int
    actions: Columns
    positions: Columns
    labels: bool

    @classmethod
    def of(cls, clip: Clip) -> Kind:
        """The kind of a clip."""
        *_, height, width = clip.frames.shape
        actions = Columns(clip.actions.shape[1], clip.action_columns)
        positions = Columns(0, None)
        if clip.positions is not None:
            positions = Columns(clip.positions.shape[1], clip.position_columns)
        return cls(height, width, actions, positions, clip.labels is not None)

    def unlike(self, most: Kind) -> Iterator[tuple[str, str]]:
        """Each difference from what most clips are, in words; and what mends it."""
        size, usual = (self.width, self.height), (most.width, most.height)
        if size != usual:
            what = "has frames of {}x{}, and most clips here of {}x{}".format(*size, *usual)
            yield what, "scale it: labkit data check ROOT --fix OUT --resize"
        if bool(self.actions.count) != bool(most.actions.count):
            hint = "give all clips their actions, or to none of them and set data.condition=none"
            yield f"has {'' if self.actions.count else 'no '}actions, unlike most clips here", hint
        if bool(self.positions.count) != bool(most.positions.count):
            hint = "give all clips their positions, or remove them and set data.condition=action"
            yield (
                f"has {'' if self.positions.count else 'no '}positions, unlike most clips here",
                hint,
            )
        for kind in ("actions", "positions"):
            one, other = getattr(self, kind), getattr(most, kind)
            mine, theirs = one.of(kind), other.of(kind)
            if mine and theirs and one.differs_from(other):
                columns = "1 column" if len(mine) == 1 else f"{len(mine)} columns"
                what = f"has {columns} of {kind} ({', '.join(mine)}), and most clips here "
                what += f"have {len(theirs)} ({', '.join(theirs)})"
                yield what, "all clips must have the same columns in the same order"
        if self.labels != most.labels:
            hint = "labels are optional: remove labels.npz from all clips"
            yield f"has {'' if self.labels else 'no '}labels, unlike most clips here", hint


@dataclass
class SplitReport:
    """What one split holds. Clips that cannot be read count, but give no figures."""

    clips: int = 0
    kinds: dict[Kind, int] = field(default_factory=dict)
    """readable clips of each kind"""
    examples: dict[Kind, Path] = field(default_factory=dict)
    """the first clip of each kind"""
    lengths: dict[int, int] = field(default_factory=dict)
    """readable clips of each number of frames"""
    repeated_actions: int = 0
    """clips with T - 1 actions for T frames"""
    conditions: dict[str, ColumnStatistics] = field(default_factory=dict)
    """of the actions and positions, over the clips with the columns of the first one"""

    @property
    def readable(self) -> int:
        """Clips without a fault of their own."""
        return sum(self.kinds.values())

    @property
    def with_positions(self) -> int:
        """Readable clips that have end-effector positions."""
        return sum(count for kind, count in self.kinds.items() if kind.positions.count)

    @property
    def sizes(self) -> dict[tuple[int, int], int]:
        """Clips of each (height, width)."""
        counts: dict[tuple[int, int], int] = {}
        for kind, count in self.kinds.items():
            counts[kind[:2]] = counts.get(kind[:2], 0) + count
        return counts

    @property
    def shapes_text(self) -> str:
        """Frames and sizes in words: `30 x 64x64`, `12-47 x 64x64, 80x64`."""
        if not self.lengths:
            return "-"
        least, most = min(self.lengths), max(self.lengths)
        frames = f"{least}" if least == most else f"{least}-{most}"
        return f"{frames} x {', '.join(f'{width}x{height}' for height, width in self.sizes)}"

    def add(self, clip: Clip, place: Path) -> None:
        """Takes in one clip, which lies at `place`."""
        kind = Kind.of(clip)
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        self.examples.setdefault(kind, place)
        self.lengths[len(clip.frames)] = self.lengths.get(len(clip.frames), 0) + 1
        self.repeated_actions += clip.repeated_action
        for name, columns, rows in (
            ("action", kind.actions.of("actions"), clip.actions),
            ("position", kind.positions.of("positions"), clip.positions),
        ):
            table = self.conditions.setdefault(name, ColumnStatistics(columns))
            if columns and not table.rows:
                table = self.conditions[name] = ColumnStatistics(columns)
            if rows is not None and columns and len(columns) == len(table.columns):
                table.add(rows)

    def faults(self) -> Iterator[DataError]:
        """Faults of the split as a whole: each way in which a kind of clip is not as most are."""
        if not self.kinds:
            return
        most = most_common(self.kinds)
        for kind, count in self.kinds.items():
            others = f" ({count - 1} more like it)" if count > 1 else ""
            for what, hint in kind.unlike(most):
                yield DataError(f"{what}{others}", file=self.examples[kind], hint=hint)


def most_common(kinds: Mapping[Kind, int]) -> Kind:
    """The kind of which there are most clips; of several the first."""
    return max(kinds, key=kinds.__getitem__)


@dataclass(frozen=True)
class Duplicate:
    """Two clips with the same pictures."""

    split: str
    name: str
    """the one that should go: of the two, the one further from the test split"""
    other_split: str
    other_name: str

    @property
    def across(self) -> bool:
        """Whether they lie in two splits: then a result on one of these says nothing."""
        return self.split != self.other_split


@dataclass
class CheckReport:
    """The outcome of `check`: figures for each split, faults, and notes.

    A fault makes the set unusable: reading or packing it stops there, or figures measured on it
    would mean nothing. A note is worth knowing and stops nothing.
    """

    root: Path
    splits: dict[str, SplitReport] = field(default_factory=dict)
    faults: list[DataError] = field(default_factory=list)
    """everything that makes the set unusable, each with its file, its row and how to fix it"""
    notes: list[str] = field(default_factory=list)
    """what is unusual but stops nothing, a sentence each"""
    needs: list[str] = field(default_factory=list)
    """what `labkit train` or `labkit evaluate` would refuse without an option, a sentence each"""
    duplicates: list[Duplicate] = field(default_factory=list)
    """clips with the same pictures; those across splits are faults too"""

    @property
    def ok(self) -> bool:
        """Whether the set can be used: it has no faults, whatever notes there are."""
        return not self.faults

    def text(self) -> str:
        """The report as plain text, for a terminal."""
        return "\n".join(_lines(self))


def unusual(report: CheckReport) -> Iterator[str]:
    """The notes that follow from a report's figures."""
    sizes: dict[tuple[int, int], list[str]] = {}
    for name, split in report.splits.items():
        for size in split.sizes:
            sizes.setdefault(size, []).append(name)
        if len(split.lengths) > 1:
            least, most = min(split.lengths), max(split.lengths)
            short = sum(count for length, count in split.lengths.items() if length < WINDOW)
            left = (
                f"; {short} of {split.readable} have fewer than {WINDOW}, training's usual number"
            )
            yield (
                f"clips of {name} have {least} to {most} frames: windows are drawn from all that "
                f"are long enough{left if least < WINDOW <= most else ''}"
            )
        if split.repeated_actions:
            have = "has" if split.repeated_actions == 1 else "have"
            yield (
                f"{_clips(split.repeated_actions)} of {name} {have} one action row fewer than "
                "frames: the last row is repeated"
            )
        inner = [d for d in report.duplicates if d.split == name == d.other_split]
        if inner:
            example = f"{inner[0].name} holds the same pictures as {inner[0].other_name}"
            count = f"{_clips(len(inner))} of {name}"
            repeat = "repeats" if len(inner) == 1 else "repeat"
            yield f"{count} {repeat} another one of it: {example}"
    yield from _unusual_columns(report.splits)
    if len(sizes) > 1:
        listed = "; ".join(f"{w}x{h} in {', '.join(n)}" for (h, w), n in sizes.items())
        yield f"frames have several sizes: {listed}"
    for height, width in sizes:
        if (height, width) == (MODEL_SIZE, MODEL_SIZE):
            continue
        copy = f"`labkit data check {quote(str(report.root))} --fix OUT --resize` writes a copy"
        if is_pack(report.root):
            copy = (
                f"`labkit data convert SOURCE OUT --resize {MODEL_SIZE}`, once more, writes clips"
            )
        copy += f" of {MODEL_SIZE}x{MODEL_SIZE}: the middle square, scaled"
        if height == width and height in FRAME_SIZES:
            copy = f"train with --model.frame-size {height}; or {copy}"
        yield f"frames are {width}x{height}, and the presets' models take 64x64: {copy}"


def _clips(count: int) -> str:
    return f"{count} clip{'s' if count != 1 else ''}"


def _unusual_columns(splits: Mapping[str, SplitReport]) -> Iterator[str]:
    """A note on columns that never change, and one on those that leave BAIR's ranges."""
    still, wide = [], []
    for name, split in splits.items():
        for table in split.conditions.values():
            if not table.rows:
                continue
            for column, low, high in zip(table.columns, table.low, table.high, strict=True):
                if low == high:
                    still.append(f"{column} of {name} is {low:.4g}")
                least, most = TYPICAL.get(column, (-np.inf, np.inf))
                if low < least or high > most:
                    wide.append(
                        f"{column} of {name} reaches from {low:.4g} to {high:.4g} "
                        f"({least:.4g} .. {most:.4g})"
                    )
    if still:
        yield f"columns that are the same in every frame tell the model nothing: {_some(still)}"
    if wide:
        yield (
            f"columns that leave the range of BAIR's clips, in brackets: {_some(wide)}; are they "
            "in another unit, or another column?"
        )


def _some(things: list[str], shown: int = 6) -> str:
    more = f" and {len(things) - shown} more" if len(things) > shown else ""
    return "; ".join(things[:shown]) + more


def _lines(report: CheckReport) -> Iterator[str]:
    """The text: a line a split, a line a column, a line a note, a line a fault, and a verdict."""
    yield from (f"{report.root}", "")
    yield f"{'split':<10} {'clips':>6} {'readable':>8}  frames and size"
    for name, split in report.splits.items():
        yield f"{name:<10} {split.clips:>6} {split.readable:>8}  {split.shapes_text}"
    yield from ("", f"{'split':<10} {'column':<14} {'mean':>9} {'std':>9} {'min':>9} {'max':>9}")
    for name, split in report.splits.items():
        for kind, table in split.conditions.items():
            yield from _column_lines(name, kind, table)
    yield ""
    yield from (f"note: {note}" for note in [*report.notes, *report.needs])
    yield from (f"fault: {fault}" for fault in report.faults[:SHOWN])
    count = len(report.faults)
    if count > SHOWN:
        yield f"and {count - SHOWN} more"
    verdict = f"{count} fault{'s' if count > 1 else ''}" if count else "no faults"
    yield (
        f"{verdict}, but training or evaluation needs more: see the notes"
        if (report.needs and not count)
        else verdict
    )


def _column_lines(split: str, kind: str, table: ColumnStatistics) -> Iterator[str]:
    if not table.rows:
        yield f"{split:<10} no {kind}s"
        return
    figures = zip(table.columns, table.mean, table.std, table.low, table.high, strict=True)
    for column, mean, std, low, high in figures:
        yield f"{split:<10} {column:<14} {mean:>9.4f} {std:>9.4f} {low:>9.4f} {high:>9.4f}"
