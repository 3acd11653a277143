"""LeRobot data sets, versions 2 and 3: parquet files of numbers, and videos or pictures.

meta/info.json                                    fps, the features, where the files lie
data/chunk-000/episode_000000.parquet             v2: an episode a file
data/chunk-000/file-000.parquet                   v3: several episodes a file
videos/chunk-000/<camera>/episode_000000.mp4      v2
videos/<camera>/chunk-000/file-000.mp4            v3: several episodes a video
meta/episodes/chunk-000/file-000.parquet          v3: where each episode lies
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from labkit.data.convert.arrays import BROKEN
from labkit.data.convert.episodes import decode_picture
from labkit.data.convert.recording import Material, Recording, needed
from labkit.data.convert.videos import open_video
from labkit.errors import DataError, LabkitError

INFO = "meta/info.json"
_AGAIN = "download the data set again"


def lerobot_recordings(root: Path, camera: str | None, state: str | None) -> list[Recording]:
    """The episodes of a data set, each a recording.

    Args:
        root: its folder, with `meta/info.json`.
        camera: name of the pictures, such as `observation.images.top` or `top`; None takes the
            first.
        state: name of the positions; None takes `observation.state`.

    Raises:
        DataError: pyarrow is missing, or a file of `meta` is missing, damaged or of another
            version.
    """
    needed("pyarrow.parquet", "LeRobot data sets")
    info = _info(root)
    key = _camera(info, camera, root)
    version = str(info.get("codebase_version", "")).removeprefix("v").partition(".")[0]
    try:
        if version == "3":
            places = _episodes_of_3(root)
        elif version == "2":
            places = {n: {"length": None} for n in range(int(info["total_episodes"]))}
        else:
            what = f"is of version {info.get('codebase_version')}"
            raise DataError(what, file=root / INFO, hint="versions 2 and 3 are read")
        splits = _splits(info, len(places))
    except LabkitError:
        raise
    except BROKEN as error:
        what = f"is incomplete: {type(error).__name__} {error}"
        raise DataError(what, file=root / INFO, hint=_AGAIN) from None
    found = []
    for number, place in sorted(places.items()):
        read = functools.partial(_read, root, info, key, state, number, place)
        found.append(Recording(f"episode_{number:06d}", read, splits.get(number)))
    return found


def _info(root: Path) -> dict[str, Any]:
    file = root / INFO
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"is not readable: {error}", file=file, hint=_AGAIN) from None
    if not isinstance(info, dict) or not isinstance(info.get("features"), dict):
        raise DataError("lists no features", file=file, hint=_AGAIN)
    return info


def _camera(info: Mapping[str, Any], camera: str | None, root: Path) -> str:
    kinds = {
        name: feature.get("dtype") if isinstance(feature, dict) else None
        for name, feature in info["features"].items()
    }
    cameras = [name for name, kind in kinds.items() if kind in ("video", "image")]
    wanted = [name for name in cameras if camera in (None, name, name.rpartition(".")[2])]
    if not wanted:
        what = "has no camera" if camera is None else f"has no camera {camera}"
        hint = f"there are: {', '.join(cameras) or 'none'}"
        raise DataError(what, file=root / INFO, hint=hint)
    return wanted[0]


def _splits(info: Mapping[str, Any], count: int) -> dict[int, str]:
    """The split of each episode, where the data set has more than `train`: {"train": "0:40"}."""
    names = {"train": "train", "val": "validate", "validation": "validate", "test": "test"}
    given = info.get("splits") or {}
    if len(given) < 2:
        return {}
    found = {}
    for name, episodes in given.items():
        first, _, last = str(episodes).partition(":")
        for number in range(int(first), min(int(last), count)):
            found[number] = names.get(name, name)
    return found if len(found) == count else {}


def _episodes_of_3(root: Path) -> dict[int, dict[str, Any]]:
    """Where each episode of a data set of version 3 lies, by its number."""
    files = sorted((root / "meta" / "episodes").rglob("*.parquet"))
    if not files:
        raise DataError("no such files", file=root / "meta/episodes/*.parquet", hint=_AGAIN)
    rows = [row for file in files for row in _table(file).to_pylist()]
    return {int(row["episode_index"]): row for row in rows}


def _table(file: Path, columns: list[str] | None = None) -> Any:
    parquet = needed("pyarrow.parquet", "LeRobot data sets")
    try:
        return parquet.read_table(file, columns=columns)
    except FileNotFoundError:
        raise DataError("no such file", file=file, hint=_AGAIN) from None
    except Exception as error:  # pyarrow has errors of its own for each layer
        what = f"is not readable as parquet: {str(error).splitlines()[0]}"
        raise DataError(what, file=file, hint=_AGAIN) from None


def _read(
    root: Path,
    info: Mapping[str, Any],
    key: str,
    state: str | None,
    number: int,
    place: Mapping[str, Any],
) -> Material:
    where = {"episode_index": number, "video_key": key, "episode_chunk": 0}
    where["episode_chunk"] = number // int(info.get("chunks_size") or 1000)
    video = dict(where)
    for kind, target in (("data", where), (f"videos/{key}", video)):
        target["chunk_index"] = place.get(f"{kind}/chunk_index", 0)
        target["file_index"] = place.get(f"{kind}/file_index", 0)
    try:
        file = root / info["data_path"].format(**where)
        table = _table(file)
        if "episode_index" in table.column_names:
            mine = np.flatnonzero(np.asarray(table.column("episode_index")) == number)
            table = table.take(mine)
        positions = state or "observation.state"
        if state is not None and state not in table.column_names:
            hint = f"there are: {', '.join(table.column_names)}"
            raise DataError(f"has no column {state}", file=file, hint=hint)
        numbers = {
            name: np.asarray(table.column(name).to_pylist(), np.float64)
            for name in ("action", positions)
            if name in table.column_names
        }
        numbers = {n: v.reshape(len(v), -1) for n, v in numbers.items()}
        count, fps = table.num_rows, float(info["fps"])
        if not count:
            raise DataError(f"holds no rows of episode {number}", file=file, hint=_AGAIN)
        if key in table.column_names:
            pictures = table.column(key).to_pylist()
            label = f"{file}, episode {number}"
            frames = (decode_picture(p["bytes"], n, label) for n, p in enumerate(pictures))
        else:
            file = root / info["video_path"].format(**video)
            start = place.get(f"videos/{key}/from_timestamp") or None
            _, frames = open_video(file, start, count)
    except LabkitError:
        raise
    except BROKEN as error:
        what = f"episode {number} cannot be read: {type(error).__name__} {error}"
        raise DataError(what, file=root, hint=_AGAIN) from None
    return Material(
        file,
        frames,
        numbers.get("action"),
        numbers.get(positions),
        _names(info, "action", numbers),
        _names(info, positions, numbers),
        fps,
    )


def _names(
    info: Mapping[str, Any], feature: str, numbers: Mapping[str, np.ndarray]
) -> tuple[str, ...] | None:
    """The names of a feature's columns, which are a list, or a list below one more name."""
    if feature not in numbers:
        return None
    names = info["features"].get(feature, {}).get("names")
    if isinstance(names, dict):
        names = next(iter(names.values()), None)
    whole = isinstance(names, list) and len(names) == numbers[feature].shape[1]
    return tuple(str(name).replace(",", " ") for name in names) if whole else None
