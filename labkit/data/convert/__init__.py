"""Clips of other formats -> a pack, or the course layout."""

from __future__ import annotations

import contextlib
import functools
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float32, UInt8

from labkit.cores import usable_cores
from labkit.data.clip import Clip, column_names
from labkit.data.convert.arrays import (
    BROKEN,
    hdf5_recordings,
    numpy_arrays,
    recordings_of_arrays,
)
from labkit.data.convert.episodes import episodes, first_names, is_episodes
from labkit.data.convert.example import FRAMES, SIZE, Camera
from labkit.data.convert.lerobot import INFO, lerobot_recordings
from labkit.data.convert.recording import (
    Pictures,
    Recording,
    Written,
    in_splits,
    write_recordings,
)
from labkit.data.convert.records import records_to_layout, records_to_pack
from labkit.data.convert.sources import Source, open_source
from labkit.data.convert.videos import video_recordings
from labkit.data.layout import write_split
from labkit.data.layout.find import VIDEOS
from labkit.data.layout.tables import to_float32
from labkit.data.pack import is_pack, write_pack
from labkit.errors import DataError

FRAMES_KEY = "aux1_image"
"""array of pictures: the camera that the course uses"""
ACTIONS_KEY = "action"
POSITIONS_KEYS = ("endeffector_pos", "endeffector_positions", "endeffector_position")
"""names under which end-effector positions are looked for; they may be absent"""

CAMERAS = get_args(Camera)
_HDF5 = (".hdf5", ".h5", ".hdf")


def convert(
    source: Path | str,
    out: Path | str,
    *,
    camera: str | None = None,
    to: Literal["pack", "layout"] = "pack",
    workers: int | None = None,
    progress: bool = False,
    pictures: Pictures | None = None,
    split: Sequence[float] | None = None,
    state: str | None = None,
) -> dict[str, Any]:
    """Converts BAIR's official records, the one clip of an .npz file, or recordings: videos with a
    csv beside each, arrays in .npz, .npy or .hdf5, records of tensorflow_datasets, or a LeRobot
    data set (see `videos`, `arrays`, `episodes`, `lerobot`). Each recording becomes one clip of
    its own length.

    Of the records, `source` is one file, a folder of them (softmotion30_44k, with train and
    test), or a tar of it, plain or compressed, which is not unpacked. The split of a file is the
    first of: the nearest folder above it that is named train, val, validate or test (in `source`,
    or `source` itself, or the folder that a single file lies in); such a word in its name
    (`bair_test_traj_0_to_255.tfrecords`); train. Of the training files `traj_256_to_511` is then
    taken to validate on: the field's habit. Clips are named `SPLIT/traj_A_to_B/<n>`, n from 0.

    One clip cannot be split into clips to learn from and clips to test on, and a copy of it in
    `test` would be a leak by construction: an .npz makes a split `train`, and what is evaluated
    on it is the fit.

    A conversion of records that was killed or met a fault goes on where it stopped when it is
    called again with the same source, camera and `out`. Its result has the same bytes, and does
    not depend on the number of processes. Clips are in the order of their files' trajectory
    numbers; those of a compressed tar in the archive's order.

    Args:
        source: what to convert.
        out: the folder to write. A pack replaces an earlier pack there; a layout adds its splits.
        camera: whose pictures to take; of BAIR's two the course uses aux1. None is aux1, or the
            usual one of another source.
        to: a pack, or the course's folders with one PNG a frame.
        workers: processes; None: one a core, where there is enough to do. A script that asks for
            several needs the usual `if __name__ == "__main__"`.
        progress: show a bar with clips/s and the time left.
        pictures: of recordings: stride, crop and size; None: all frames, as 64 x 64.
        split: of recordings: shares of train, validate and test; None: the source's own splits, or
            0.8, 0.1, 0.1, or all for training where there are fewer than three recordings.
        state: of recordings: name of the positions.

    Returns:
        A summary: source, out, format, splits (clips by split), clips, frames, height, width,
        positions (whether there are any); of recordings also columns and notes (sentences).

    Raises:
        DataError: `source` is of another kind or damaged, one of its clips is not whole, or `out`
            cannot be written or holds something else. `out` is then as it was.
    """
    source, out = Path(source), Path(out)
    if to == "layout" and is_pack(out):
        raise DataError("is a pack, not a course layout", file=out, hint="choose another folder")
    with contextlib.ExitStack() as stack:
        recordings, records = _opened(source, out, camera, state, stack)
        if recordings is not None:
            pictures = pictures or Pictures()
            splits = in_splits(recordings, split, source)
            about = f"recordings of {source.name}"
            written = write_recordings(splits, out, to, about, pictures, progress)
            return _summary(source, out, to, written, pictures)
        if pictures not in (None, Pictures()) or split is not None or state is not None:
            hint = "leave out --fps, --stride, --crop, --resize, --pad, --split and --state"
            raise DataError("is taken as it is", file=source, hint=hint)
        if records is None:
            clip = read_npz(source)
            if camera not in (None, "aux1"):
                hint = "an .npz has the course's camera, aux1; leave the camera out"
                raise DataError(f"has no camera {camera!r}", file=source, hint=hint)
            _write(clip, out, to, f"the clip {source.name}", progress)
            counts, shape, positions = {"train": 1}, clip.frames.shape, clip.positions is not None
        else:
            chosen: Camera = "aux1" if camera is None else camera  # type: ignore[assignment]
            if chosen not in CAMERAS:
                hint = f"BAIR's cameras are {' and '.join(CAMERAS)}"
                raise DataError(f"has no camera {chosen!r}", file=source, hint=hint)
            write = records_to_pack if to == "pack" else records_to_layout
            workers = _workers(records.size, to) if workers is None else workers
            counts = write(records, out, chosen, workers, progress)
            shape, positions = (FRAMES, 3, SIZE, SIZE), True
    return {
        "source": str(source),
        "out": str(out),
        "format": to,
        "splits": counts,
        "clips": sum(counts.values()),
        "frames": shape[0],
        "height": shape[2],
        "width": shape[3],
        "positions": positions,
    }


def _opened(
    source: Path,
    out: Path,
    camera: str | None,
    state: str | None,
    stack: contextlib.ExitStack,
) -> tuple[list[Recording] | None, Source | None]:
    """The recordings of a source, or BAIR's records; neither: one clip in an .npz.

    Raises:
        DataError: it is of no known kind, or damaged.
    """
    ending = source.suffix.lower()
    if source.is_dir() and ending != ".npz":
        if (source / INFO).is_file():
            return lerobot_recordings(source, camera, state), None
        if found := video_recordings(source):
            _refuse_names(source, "holds videos", camera, state)
            return found, None
        files = sorted(file for file in source.iterdir() if file.suffix.lower() in _HDF5)
        if files:
            return [r for file in files for r in hdf5_recordings(file, camera, state)], None
    elif ending in VIDEOS and source.is_file():
        _refuse_names(source, "is a video", camera, state)
        return video_recordings(source), None
    elif ending in _HDF5 and source.is_file():
        return hdf5_recordings(source, camera, state), None
    elif ending in (".npz", ".npy"):
        if ending == ".npz" and _is_one_clip(source):
            return None, None
        arrays = numpy_arrays(_there(source))
        return recordings_of_arrays(arrays, source, camera, state), None

    @functools.cache
    def workshop() -> Path:
        place = out.parent if out.parent.is_dir() else None
        made = tempfile.TemporaryDirectory(prefix=".labkit-", dir=place)
        return Path(stack.enter_context(made))

    records = open_source(source, workshop)
    if is_episodes(first_names(records)):
        return episodes(records, camera, state), None
    return None, records


def _refuse_names(source: Path, kind: str, camera: str | None, state: str | None) -> None:
    """
    Raises:
        DataError: a camera or a state is named, and the source has none by a name.
    """
    if camera is not None:
        hint = "leave --camera out; of several cameras, put the videos of one into a folder"
        raise DataError(f"{kind}: there is no camera to choose", file=source, hint=hint)
    if state is not None:
        hint = "leave --state out; the positions of push.mp4 are those in push_positions.csv"
        raise DataError(f"{kind}: there is no state to choose", file=source, hint=hint)


def _is_one_clip(source: Path) -> bool:
    """Whether an .npz is one clip under BAIR's names, which `read_npz` reads; also where it cannot
    be opened: then that says why."""
    try:
        with source.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            if FRAMES_KEY not in arrays.files:
                return False
            with zipfile.ZipFile(source) as inside, inside.open(f"{FRAMES_KEY}.npy") as header:
                version = np.lib.format.read_magic(header)
                reads = {(1, 0): np.lib.format.read_array_header_1_0}
                read = reads.get(version, np.lib.format.read_array_header_2_0)
                shape, _, _ = read(header)
            return len(shape) != 5
    except BROKEN:
        return True


def _there(file: Path) -> Path:
    """
    Raises:
        DataError: there is no such file.
    """
    if not file.is_file():
        raise DataError("no such file", file=file, hint="look at its name and folder")
    return file


def _summary(
    source: Path, out: Path, to: str, written: Written, pictures: Pictures
) -> dict[str, Any]:
    first = written.first
    assert first is not None
    positions = first.positions
    names = {
        "actions": column_names("actions", first.actions.shape[1], first.action_columns),
        "positions": ()
        if positions is None
        else column_names("positions", positions.shape[1], first.position_columns),
    }
    return {
        "source": str(source),
        "out": str(out),
        "format": to,
        "splits": written.splits,
        "clips": len(written.lengths),
        "frames": (min(written.lengths), max(written.lengths)),
        "height": first.frames.shape[2],
        "width": first.frames.shape[3],
        "positions": positions is not None,
        "columns": names,
        "notes": list(written.notes(pictures)),
    }


def _write(clip: Clip, out: Path, to: str, about: str, progress: bool) -> None:
    if to == "pack":
        write_pack(out, {"train": [clip]}, about, progress)
    else:
        write_split(out, "train", [clip], progress)


def _workers(size: int, to: str) -> int:
    """How many processes are worth their start. To pack 64 MB takes less than a second; many
    processes wait for the disk."""
    if size < (1 << 26 if to == "pack" else 1 << 22):
        return 1
    return min(usable_cores(), 8)


def read_npz(file: Path | str) -> Clip:
    """Reads a clip from the arrays `aux1_image` (T, H, W, 3) in 0..255, `action` (T, 4) and,
    where there is one, `endeffector_pos` (T, 3).

    Raises:
        DataError: the file is of another kind or damaged, or an array is missing, of the wrong
            shape or out of its range; the message names the array.
    """
    file = Path(file)
    if not file.exists():
        raise DataError("no such file", file=file, hint="look at its name and folder")
    if not file.is_file():
        raise DataError("is a folder, not an .npz file", file=file, hint="give the file")
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            wanted = (FRAMES_KEY, ACTIONS_KEY, *POSITIONS_KEYS)
            values = {key: arrays[key] for key in wanted if key in arrays.files}
            there_are = ", ".join(arrays.files) or "none"
    except BROKEN as error:
        hint = "copy or make it again, with plain numbers in its arrays"
        what = f"is not a readable .npz file: {error}"
        raise DataError(what, file=file, hint=hint) from None
    for key in (FRAMES_KEY, ACTIONS_KEY):
        if key not in values:
            raise DataError(f"has no array {key!r}", file=file, hint=f"its arrays: {there_are}")
    frames = _frames(values[FRAMES_KEY], file)
    positions_key = next((key for key in POSITIONS_KEYS if key in values), None)
    return Clip(
        frames=frames,
        actions=_numbers(values[ACTIONS_KEY], (len(frames), 4), file, ACTIONS_KEY),
        positions=None
        if positions_key is None
        else _numbers(values[positions_key], (len(frames), 3), file, positions_key),
        name=file.stem,
    )


def _frames(values: np.ndarray, file: Path) -> UInt8[np.ndarray, "T 3 H W"]:
    if values.ndim != 4 or values.shape[-1] != 3 or 0 in values.shape:
        what = f"{FRAMES_KEY} has shape {values.shape}"
        raise DataError(what, file=file, hint="expected (T, H, W, 3)")
    if not np.issubdtype(values.dtype, np.integer):
        what = f"{FRAMES_KEY} holds {values.dtype}"
        raise DataError(what, file=file, hint="expected whole numbers, 0..255")
    if values.min() < 0 or values.max() > 255:
        what = f"{FRAMES_KEY} reaches from {values.min()} to {values.max()}"
        raise DataError(what, file=file, hint="expected 0..255")
    return np.ascontiguousarray(values.astype(np.uint8).transpose(0, 3, 1, 2))


def _numbers(
    values: np.ndarray, shape: tuple[int, int], file: Path, key: str
) -> Float32[np.ndarray, "T C"]:
    if values.shape != shape:
        what = f"{key} has shape {values.shape}"
        raise DataError(what, file=file, hint=f"expected {shape}: one row a frame")
    if values.dtype.kind not in "fiu" or not np.isfinite(to_float32(values)).all():
        raise DataError(f"{key} holds {values.dtype} that are not all finite numbers", file=file)
    return to_float32(values)
