"""Clips of other formats -> a pack, or the course layout."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, UInt8

from labkit.cores import usable_cores
from labkit.data.clip import Clip
from labkit.data.convert.example import FRAMES, SIZE, Camera
from labkit.data.convert.records import records_to_layout, records_to_pack
from labkit.data.convert.sources import open_source
from labkit.data.layout import write_split
from labkit.data.layout.tables import to_float32
from labkit.data.pack import is_pack, write_pack
from labkit.errors import DataError

FRAMES_KEY = "aux1_image"
"""array of pictures: the camera that the course uses"""
ACTIONS_KEY = "action"
POSITIONS_KEYS = ("endeffector_pos", "endeffector_positions", "endeffector_position")
"""names under which end-effector positions are looked for; they may be absent"""

_BROKEN = (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
"""what numpy raises for a damaged file, or for one of another kind that is called .npz"""


def convert(
    source: Path | str,
    out: Path | str,
    *,
    camera: Camera = "aux1",
    to: Literal["pack", "layout"] = "pack",
    workers: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Converts BAIR's official records, or the one clip of an .npz file.

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
        camera: whose pictures to take, of the records' two; the course uses aux1.
        to: a pack, or the course's folders with one PNG a frame.
        workers: processes; None: one a core, where there is enough to do. A script that asks for
            several needs the usual `if __name__ == "__main__"`.
        progress: show a bar with clips/s and the time left.

    Returns:
        A summary: source, out, format, splits (clips by split), clips, frames, height, width,
        positions (whether there are any).

    Raises:
        DataError: `source` is of another kind or damaged, one of its clips is not whole, or `out`
            cannot be written or holds something else. `out` is then as it was.
    """
    source, out = Path(source), Path(out)
    if to == "layout" and is_pack(out):
        raise DataError("is a pack, not a course layout", file=out, hint="choose another folder")
    if source.suffix.lower() == ".npz":
        clip = read_npz(source)
        if camera != "aux1":
            hint = "an .npz has the course's camera, aux1; leave the camera out"
            raise DataError(f"has no camera {camera!r}", file=source, hint=hint)
        _write(clip, out, to, f"the clip {source.name}", progress)
        splits, shape, positions = {"train": 1}, clip.frames.shape, clip.positions is not None
    else:
        records = open_source(source)
        write = records_to_pack if to == "pack" else records_to_layout
        workers = _workers(records.size, to) if workers is None else workers
        splits = write(records, out, camera, workers, progress)
        shape, positions = (FRAMES, 3, SIZE, SIZE), True
    return {
        "source": str(source),
        "out": str(out),
        "format": to,
        "splits": splits,
        "clips": sum(splits.values()),
        "frames": shape[0],
        "height": shape[2],
        "width": shape[3],
        "positions": positions,
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
    except _BROKEN as error:
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
