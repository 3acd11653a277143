"""Arrays of many recordings: one .npz or .npy file, or an .hdf5 file of a known form."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from labkit.data.convert.recording import Material, Recording, needed
from labkit.errors import DataError, LabkitError

FRAMES = (
    "aux1_image",
    "frames",
    "images",
    "image",
    "video",
    "videos",
    "rgb",
    "observations",
    "obs",
)
"""names under which pictures are looked for, in this order"""
ACTIONS = ("action", "actions")
POSITIONS = (
    "endeffector_pos",
    "endeffector_positions",
    "endeffector_position",
    "position",
    "positions",
    "state",
    "states",
)
BROKEN = (Exception,)
"""What numpy, h5py, pyarrow and av raise for a damaged file: nearly anything, an error of Python's
tokenizer among it. So every error of theirs counts, and a signal (Ctrl-C) does not."""


def numpy_arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; the one of an .npy file is called `frames`.

    Raises:
        DataError: it is damaged or of another kind.
    """
    try:
        if file.suffix.lower() == ".npy":
            return {"frames": np.load(file, mmap_mode="r", allow_pickle=False)}
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except BROKEN as error:
        hint = "copy or make it again, with plain numbers in its arrays"
        what = f"is not a readable {file.suffix} file: {error}"
        raise DataError(what, file=file, hint=hint) from None


def recordings_of_arrays(
    arrays: Mapping[str, Any], file: Path, camera: str | None = None, state: str | None = None
) -> list[Recording]:
    """One recording for each of N in arrays (N, T, H, W, 3) of pictures, (N, T, A) of actions and
    (N, T, P) of positions, the latter two where there are any. Pictures may also be
    (N, T, 3, H, W). Arrays without the first axis are one recording. `lengths` (N,) says how many
    frames of each count, where they differ.

    Args:
        arrays: by name.
        file: where they come from, for messages.
        camera: name of the pictures' array; None takes the first of `FRAMES`.
        state: name of the positions' array; None takes the first of `POSITIONS`.

    Raises:
        DataError: there are no pictures, or the arrays do not fit together.
    """
    names = {
        "frames": _pick(arrays, FRAMES, camera, file),
        "actions": _pick(arrays, ACTIONS, None, file),
        "positions": _pick(arrays, POSITIONS, state, file),
    }
    if names["frames"] is None:
        hint = f"expected one called {', '.join(FRAMES[:4])} and so on; its arrays: "
        hint += ", ".join(arrays) or "none"
        raise DataError("has no array of pictures", file=file, hint=hint)
    parts = {kind: arrays[name] for kind, name in names.items() if name is not None}
    frames = parts["frames"]
    if frames.ndim == 4:
        parts = {kind: part[None] for kind, part in parts.items()}
        frames = parts["frames"]
    if frames.ndim != 5 or 3 not in (frames.shape[2], frames.shape[4]) or 0 in frames.shape:
        what = f"{names['frames']} has shape {tuple(frames.shape)}"
        raise DataError(what, file=file, hint="expected (N, T, H, W, 3), or (T, H, W, 3)")
    count, length = frames.shape[:2]
    for kind in ("actions", "positions"):
        if kind not in parts:
            continue
        rows = (length, length - 1) if kind == "actions" else (length,)
        shape = tuple(parts[kind].shape)
        if len(shape) != 3 or shape[0] != count or shape[1] not in rows:
            what = f"{names[kind]} has shape {shape}"
            hint = f"expected ({count}, {length}, columns): one row a frame of {names['frames']}"
            raise DataError(what, file=file, hint=hint)
    lengths = _lengths(arrays, count, length, file)
    read = functools.partial(_read_array, parts, names["frames"], lengths, file)
    unread = tuple(name for name in arrays if name not in {*names.values(), "lengths"})
    return [
        Recording(f"{file.stem}/{n}", functools.partial(read, n), unread=unread)
        for n in range(count)
    ]


def _pick(
    arrays: Mapping[str, Any], usual: tuple[str, ...], given: str | None, file: Path
) -> str | None:
    if given is not None:
        if given not in arrays:
            hint = f"its arrays: {', '.join(arrays)}"
            raise DataError(f"has no array {given!r}", file=file, hint=hint)
        return given
    return next((name for name in usual if name in arrays), None)


def _lengths(arrays: Mapping[str, Any], count: int, length: int, file: Path) -> np.ndarray:
    if "lengths" not in arrays:
        return np.full(count, length)
    lengths = np.asarray(arrays["lengths"])
    if lengths.shape != (count,) or lengths.dtype.kind not in "iu":
        what = f"lengths are {lengths.dtype} of shape {lengths.shape}"
        raise DataError(what, file=file, hint=f"expected {count} whole numbers")
    if lengths.min() < 1 or lengths.max() > length:
        what = f"lengths reach from {lengths.min()} to {lengths.max()}"
        raise DataError(what, file=file, hint=f"expected 1 to {length}")
    return lengths


def _read_array(
    parts: Mapping[str, Any], key: str, lengths: np.ndarray, file: Path, number: int
) -> Material:
    length = int(lengths[number])
    try:
        rows = {kind: np.asarray(part[number])[:length] for kind, part in parts.items()}
    except BROKEN as error:
        what = f"recording {number} cannot be read: {error}"
        raise DataError(what, file=file, hint="it is damaged: copy it again") from None
    label = f"{file}, recording {number}"
    frames = as_pictures(rows["frames"], key, label)
    return Material(label, frames, rows.get("actions"), rows.get("positions"))


def as_pictures(values: np.ndarray, key: str, file: Path | str) -> np.ndarray:
    """Pictures (T, H, W, 3) as uint8: whole numbers 0..255, or fractions 0..1; channels may come
    before height and width.

    Raises:
        DataError: they hold anything else.
    """
    if values.ndim != 4 or 3 not in (values.shape[1], values.shape[3]) or 0 in values.shape:
        what = f"{key} has shape {values.shape}"
        raise DataError(what, file=file, hint="expected (T, H, W, 3)")
    if values.shape[3] != 3:
        values = values.transpose(0, 2, 3, 1)
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        return np.rint(values * 255).astype(np.uint8)
    if values.dtype.kind not in "iu" or low < 0 or high > 255:
        what = f"{key} holds {values.dtype} from {low} to {high}"
        raise DataError(what, file=file, hint="expected whole numbers 0..255, or fractions 0..1")
    return np.asarray(values, np.uint8)


# ------------------------------------------------------------------------------- hdf5


def hdf5_recordings(file: Path, camera: str | None, state: str | None) -> list[Recording]:
    """The recordings of an .hdf5 file of one of these forms:

    - robomimic: `data/demo_0/obs/agentview_image` (T, H, W, 3), `data/demo_0/actions`; splits by
      `mask/train` and `mask/valid`;
    - MCVD: `0/0`, `0/1`, ... one array a frame, and `len/0` the number of frames;
    - VideoGPT: `train_data` (R, H, W, 3) and `train_idx`, the first frame of each recording;
    - arrays as in `recordings_of_arrays`.

    Raises:
        DataError: h5py is missing, or the file is damaged or of another form.
    """
    h5py = needed("h5py", "hdf5 files")
    try:
        with h5py.File(file, "r") as opened:
            top = list(opened)
            arrays = {name: opened[name] for name in top if isinstance(opened[name], h5py.Dataset)}
            if isinstance(opened.get("data"), h5py.Group):
                return list(_robomimic(opened, file, camera, state))
            if isinstance(opened.get("len"), h5py.Group):
                _refuse_names(file, "MCVD", camera, state)
                return list(_mcvd(opened, file))
            if "train_data" in arrays:
                _refuse_names(file, "VideoGPT", camera, state)
                return list(_videogpt(opened, file))
            if not arrays:
                hint = "expected robomimic's, MCVD's or VideoGPT's form, or arrays; its groups: "
                hint += ", ".join(top) or "none"
                raise DataError("is of no known form", file=file, hint=hint)
            found = recordings_of_arrays(arrays, file, camera, state)
    except LabkitError:
        raise
    except BROKEN as error:
        hint = "it is damaged, or not an hdf5 file: copy it again"
        raise DataError(f"is not readable as hdf5: {error}", file=file, hint=hint) from None

    def read(opened: Any, number: int) -> Material:
        return recordings_of_arrays(opened, file, camera, state)[number].read()

    return [
        Recording(r.name, _reader(file, r.name, read, n), unread=r.unread)
        for n, r in enumerate(found)
    ]


def _refuse_names(file: Path, form: str, camera: str | None, state: str | None) -> None:
    """
    Raises:
        DataError: a camera or a state is named, and a file of that form has none by a name.
    """
    for option, name in (("camera", camera), ("state", state)):
        if name is not None:
            what = f"has the form of {form}: there is no {option} to choose"
            raise DataError(what, file=file, hint=f"leave --{option} out")


def _reader(
    file: Path, name: str, read: Callable[..., Material], *arguments: Any
) -> Callable[[], Material]:
    """A function that opens the file and reads one recording of it."""

    def opens() -> Material:
        try:
            with needed("h5py", "hdf5 files").File(file, "r") as opened:
                return read(opened, *arguments)
        except LabkitError:  # it says what is wrong
            raise
        except BROKEN as error:
            what = f"{name} cannot be read: {error}"
            raise DataError(what, file=file, hint="it is damaged: copy it again") from None

    return opens


def _robomimic(
    opened: Any, file: Path, camera: str | None, state: str | None
) -> Iterator[Recording]:
    splits = {}
    for mask, split in (("train", "train"), ("valid", "validate"), ("test", "test")):
        for name in opened.get(f"mask/{mask}", []):
            splits[name.decode()] = split
    demos = sorted(opened["data"], key=lambda name: (len(name), name))
    whole = all(demo in splits for demo in demos)

    def read(opened: Any, demo: str) -> Material:
        group = opened["data"][demo]
        obs = group.get("obs", {})
        pictures = [name for name in obs if obs[name].ndim == 4 and obs[name].shape[-1] == 3]
        key = camera or next(iter(sorted(pictures, key=lambda n: (n != "agentview_image", n))), "")
        if not pictures:
            hint = "robomimic's dataset_states_to_obs.py renders them"
            raise DataError(f"{demo} has no pictures", file=file, hint=hint)
        if key not in pictures:
            hint = f"--camera takes one of these: {', '.join(pictures)}"
            raise DataError(f"{demo} has no camera {key}", file=file, hint=hint)
        where = state or "robot0_eef_pos"
        if state is not None and state not in obs:
            hint = f"--state takes one of these: {', '.join(n for n in obs if n not in pictures)}"
            raise DataError(f"{demo} has no state {state}", file=file, hint=hint)
        label = f"{file}, {demo}"
        return Material(
            label,
            as_pictures(obs[key][()], key, label),
            group["actions"][()] if "actions" in group else None,
            obs[where][()] if where in obs else None,
        )

    for demo in demos:
        split = splits[demo] if whole else None
        yield Recording(f"{file.stem}/{demo}", _reader(file, demo, read, demo), split)


def _mcvd(opened: Any, file: Path) -> Iterator[Recording]:
    def read(opened: Any, number: str) -> Material:
        count = int(opened["len"][number][()])
        frames = np.stack([opened[number][str(n)][()] for n in range(count)])
        label = f"{file}, recording {number}"
        return Material(label, as_pictures(frames, number, label))

    for number in sorted(opened["len"], key=int):
        yield Recording(f"{file.stem}/{number}", _reader(file, number, read, number))


def _videogpt(opened: Any, file: Path) -> Iterator[Recording]:
    def read(opened: Any, split: str, number: int) -> Material:
        data, starts = opened[f"{split}_data"], opened[f"{split}_idx"]
        last = int(starts[number + 1]) if number + 1 < len(starts) else len(data)
        label = f"{file}, {split} recording {number}"
        first = int(starts[number])
        names = [name for name in ACTIONS if f"{split}_{name}" in opened]
        actions = opened[f"{split}_{names[0]}"][first:last] if names else None
        return Material(label, as_pictures(data[first:last], f"{split}_data", label), actions)

    for split in ("train", "test"):
        for number in range(len(opened[f"{split}_idx"]) if f"{split}_idx" in opened else 0):
            name = f"{split}/{number}"
            read_one = _reader(file, name, read, split, number)
            yield Recording(f"{file.stem}/{name}", read_one, split)
