"""Clips of other formats -> the course layout."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from labkit.data.clip import Clip
from labkit.data.layout import write_split
from labkit.data.tables import to_float32
from labkit.errors import DataError

FRAMES_KEY = "aux1_image"
"""array of pictures: the camera that the course uses"""
ACTIONS_KEY = "action"
POSITIONS_KEYS = ("endeffector_pos", "endeffector_positions", "endeffector_position")
"""names under which end-effector positions are looked for; they may be absent"""

_BROKEN = (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
"""what numpy raises for a damaged file, or for one of another kind that is called .npz"""


def convert(source: Path | str, out: Path | str) -> dict[str, Any]:
    """Writes the clip of an .npz file to the split `train` of `out`, in the course layout.

    One clip cannot be split into clips to learn from and clips to test on, and a copy of it in
    `test` would be a leak by construction: so there is one split, and what is evaluated on it is
    the fit.

    Returns:
        A summary: source, out, split, clips, frames, height, width, positions (whether there
        are any).

    Raises:
        DataError: the file is of another kind, is damaged, or lacks an array; or `out` has the
            split already.
    """
    source, out = Path(source), Path(out)
    clip = read_npz(source)
    clips = write_split(out, "train", [clip])
    frames, _, height, width = clip.frames.shape
    return {
        "source": str(source),
        "out": str(out),
        "split": "train",
        "clips": clips,
        "frames": frames,
        "height": height,
        "width": width,
        "positions": clip.positions is not None,
    }


def read_npz(file: Path | str) -> Clip:
    """Reads a clip from the arrays `aux1_image` (T, H, W, 3) in 0..255, `action` (T, 4) and,
    where there is one, `endeffector_pos` (T, 3).

    Raises:
        DataError: the file is of another kind or damaged, or an array is missing, of the wrong
            shape or out of its range; the message names the array.
    """
    file = Path(file)
    _refuse_other_kinds(file)
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            wanted = (FRAMES_KEY, ACTIONS_KEY, *POSITIONS_KEYS)
            values = {key: arrays[key] for key in wanted if key in arrays.files}
            there_are = ", ".join(arrays.files) or "none"
    except _BROKEN as error:
        raise DataError(f"is not a readable .npz file: {error}", file=file) from None
    for key in (FRAMES_KEY, ACTIONS_KEY):
        if key not in values:
            raise DataError(f"has no array {key!r}", file=file, mend=f"its arrays: {there_are}")
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


def _refuse_other_kinds(file: Path) -> None:
    """Raises DataError for what is not an .npz file, in words that fit what it is."""
    if not file.exists():
        raise DataError("no such file", file=file)
    if file.is_dir():
        records = next(file.rglob("*.tfrecord*"), None)
        if records is not None and records.is_file():
            raise _official(file)
        mend = "give an .npz file; the course layout needs no conversion: `labkit data check`"
        raise DataError("is a folder", file=file, mend=mend)
    if file.suffix == ".npz":
        return
    if ".tfrecord" in file.name or tarfile.is_tarfile(file):
        raise _official(file)
    raise DataError(f"is of no known kind ({file.suffix or 'no ending'})", file=file)


def _official(file: Path) -> DataError:
    mend = "this version converts .npz clips and reads the course layout of PNG and csv files"
    return DataError("BAIR's official records are not read yet", file=file, mend=mend)


def _frames(values: np.ndarray, file: Path) -> UInt8[np.ndarray, "T 3 H W"]:
    if values.ndim != 4 or values.shape[-1] != 3 or 0 in values.shape:
        what = f"{FRAMES_KEY} has shape {values.shape}"
        raise DataError(what, file=file, mend="expected (T, H, W, 3)")
    if not np.issubdtype(values.dtype, np.integer):
        what = f"{FRAMES_KEY} holds {values.dtype}"
        raise DataError(what, file=file, mend="expected whole numbers, 0..255")
    if values.min() < 0 or values.max() > 255:
        what = f"{FRAMES_KEY} reaches from {values.min()} to {values.max()}"
        raise DataError(what, file=file, mend="expected 0..255")
    return np.ascontiguousarray(values.astype(np.uint8).transpose(0, 3, 1, 2))


def _numbers(
    values: np.ndarray, shape: tuple[int, int], file: Path, key: str
) -> Float32[np.ndarray, "T C"]:
    if values.shape != shape:
        what = f"{key} has shape {values.shape}"
        raise DataError(what, file=file, mend=f"expected {shape}: one row a frame")
    if values.dtype.kind not in "fiu" or not np.isfinite(to_float32(values)).all():
        raise DataError(f"{key} holds {values.dtype} that are not all finite numbers", file=file)
    return to_float32(values)
