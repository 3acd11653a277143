"""Clips from (seed, index): one, a stream over processes, or a pack on disk."""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from labkit.data.clip import Clip
from labkit.data.simulator.physics import run
from labkit.data.simulator.render import render
from labkit.data.simulator.world import SimulatedClip, SimulatedWorld
from labkit.data.workers import in_order
from labkit.errors import DataError
from labkit.files import holds_things

if TYPE_CHECKING:
    from labkit.data.pack import Pack

VERSION = 1
"""raised whenever the same (seed, index) no longer gives the same clip"""

SPLIT_OFFSETS = {"train": 0, "validate": 1_000_000_000, "test": 2_000_000_000}
"""index of the first clip of each split: splits of up to a billion clips never share one"""

_SPLIT_ROOM = 1_000_000_000
_CHUNK = 8


def simulate_clip(
    seed: int,
    index: int,
    n_frames: int = 30,
    size: int = 64,
    *,
    actions: Float32[np.ndarray, "n_frames 4"] | None = None,
    since: int = 0,
) -> SimulatedClip:
    """Simulate one clip: a pure function of its arguments.

    Args:
        seed: number of the data set, 0 or more.
        index: number of the clip in it, 0 or more; any clip can be made without the others.
        n_frames: T, 1 or more.
        size: side of the pictures in pixels; only the camera's resolution depends on it.
        actions: what the robot is asked to do instead, from row `since` on: the same scene, the
            same past up to frame `since`, another future. The clip's own actions give the clip.
        since: first row of `actions` that is read.

    Returns:
        A clip with frames (T, 3, size, size), actions (T, 4), positions (T, 3) and labels
        (T, size, size). Positions are metres in the table's frame (x to the right, y away from
        the camera, z up), as reached in frame t. Action columns 0 and 1 are the move asked for, in
        metres a frame, within +-0.066; column 2 closes the fingers for that many decisions (0, 1
        or 3), column 3 lifts (0 or 1). Row t leads from frame t to frame t + 1, and each decision
        is held for two rows. The ranges are those of a real BAIR clip; the units, the 0.2 s
        between frames and the meaning of columns 2 and 3 are assumptions.

    Raises:
        DataError: an argument is out of its range.
    """
    for name, value, least in (("seed", seed, 0), ("index", index, 0), ("n_frames", n_frames, 1)):
        if value < least:
            raise DataError(f"{name} is {value}", hint=f"it must be {least} or more")
    if not 16 <= size <= 512:
        raise DataError(f"size is {size}", hint="choose 16 to 512 pixels, such as 64")
    if actions is not None and not (0 <= since < n_frames and np.isfinite(actions[since:]).all()):
        raise DataError(f"actions from row {since} on hold NaN, or are not there")
    world = SimulatedWorld(seed, index, size)
    motion = run(world.scene, world.control(), n_frames, actions, since)
    frames, labels = render(world.scene, motion, size)
    name, positions = f"simulated seed {seed} index {index}", motion.effector.astype(np.float32)
    return SimulatedClip(frames, motion.actions, positions, labels, name, world=world)


def simulate(
    seed: int, indices: Iterable[int], workers: int = 0, n_frames: int = 30, size: int = 64
) -> Iterator[Clip]:
    """Simulate clips in the order of `indices`.

    Args:
        workers: processes to share the work; 0 and 1 stay in this process. A script that asks
            for more needs the usual `if __name__ == "__main__":` guard.

    Only a few chunks of clips are in memory at a time, however many indices there are.
    """
    if workers <= 1:
        for index in indices:
            yield simulate_clip(seed, index, n_frames, size)
        return
    indices = iter(indices)
    chunks = iter(lambda: tuple(itertools.islice(indices, _CHUNK)), ())
    work = functools.partial(_simulate_chunk, seed, n_frames=n_frames, size=size)
    with contextlib.closing(in_order(work, chunks, workers)) as results:
        for _, clips in results:
            yield from clips


@dataclass(frozen=True)
class SimulatedSplit:
    """The clips of one split, simulated as they are asked for. It has a length, so that a
    progress bar can tell the time left."""

    seed: int
    split: str
    count: int
    workers: int = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Clip]:
        first = SPLIT_OFFSETS[self.split]
        return simulate(self.seed, range(first, first + self.count), self.workers)


def _simulate_chunk(seed: int, indices: tuple[int, ...], *, n_frames: int, size: int) -> list[Clip]:
    return [simulate_clip(seed, index, n_frames, size) for index in indices]


def simulate_pack(
    root: Path | str,
    seed: int,
    counts: Mapping[str, int],
    workers: int = 0,
    progress: bool = True,
) -> Pack:
    """Simulate a data set into a pack, or open it when it is already there.

    Args:
        root: folder of the pack; it must be absent, empty, or hold a pack of the same clips.
        counts: number of clips of each split, such as `{"train": 2048, "test": 256}`.

    Raises:
        DataError: a split is unknown or too large, or `root` holds something else.
    """
    from labkit.data.pack import open_pack, write_pack

    root = Path(root)
    check_counts(counts)
    if root.exists() and not root.is_dir():
        raise DataError("is a file", file=root, hint="give the name of a folder")
    source = source_of(seed, counts)
    if root.exists() and holds_things(root):
        hint = "choose another folder, or delete this one"
        if not (root / "manifest.json").is_file():
            raise DataError("holds something that is not a pack", file=root, hint=hint)
        pack = open_pack(root)
        found = pack.manifest.get("source")
        if found != source:
            raise DataError(f"holds '{found}', not '{source}'", file=root, hint=hint)
        return pack
    clips = {split: SimulatedSplit(seed, split, count, workers) for split, count in counts.items()}
    notes = {"simulator": {"version": VERSION, "seed": seed}}
    return write_pack(root, clips, source=source, progress=progress, notes=notes)


def check_counts(counts: Mapping[str, int]) -> None:
    """
    Raises:
        DataError: a split is unknown, without clips or too large.
    """
    for split, count in counts.items():
        if split not in SPLIT_OFFSETS:
            raise DataError(f"no split {split!r}", hint=f"choose from {', '.join(SPLIT_OFFSETS)}")
        if not 1 <= count <= _SPLIT_ROOM:
            raise DataError(f"{count} clips for {split}", hint=f"ask for 1 to {_SPLIT_ROOM:,}")


def source_of(seed: int, counts: Mapping[str, int]) -> str:
    """What a pack's manifest says of its origin: version, seed and counts."""
    splits = ", ".join(f"{split} {counts[split]}" for split in SPLIT_OFFSETS if split in counts)
    return f"labkit simulator {VERSION}, seed {seed}: {splits}"


def manifest_seed(manifest: Mapping[str, Any]) -> int | None:
    """The seed of a simulated pack, from its manifest; None where the pack has another origin, or
    was made by another version of the simulator."""
    made = manifest.get("simulator")
    if isinstance(made, dict):
        seed = made.get("seed")
        return seed if made.get("version") == VERSION and type(seed) is int else None
    # Packs that were made before the manifest had this field say it in a sentence.
    sentence = rf"labkit simulator {VERSION}, seed (\d+): "
    found = re.match(sentence, str(manifest.get("source", "")))
    return int(found[1]) if found else None
