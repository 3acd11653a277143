"""Records that tensorflow_datasets wrote -> recordings: BAIR as it prepares it, and RLDS episodes
(Open X), each a `tf.Example`.

    BAIR     image_aux1: 30 encoded pictures   action: 30 x 4 floats   endeffector_pos: 30 x 3
    RLDS     steps/observation/<camera>: T encoded pictures   steps/action: T x A floats
             steps/observation/<state>: T x P floats
"""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from labkit.data.convert.example import parse_example
from labkit.data.convert.recording import Material, Recording
from labkit.data.convert.sources import RecordFile, Source, open_at
from labkit.data.convert.tfrecord import Span, read_data, scan_records
from labkit.data.layout.pictures import MOST_PIXELS
from labkit.errors import DataError

LONGEST = 1 << 31
"""bytes of data that an episode may have: it holds all of its pictures"""

_PICTURE = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
"""the first bytes of a PNG and of a JPEG"""


def first_names(source: Source) -> list[str]:
    """Names of the features of the source's first record; none where it cannot be read."""
    if not source.files:
        return []
    file = source.files[0]
    try:
        with open_at(file) as stream:
            span = next(scan_records(stream, file.label, file.size, LONGEST))
            stream.seek(span.offset)
            data = read_data(stream, span.length, file.label, 1)
        return list(parse_example(data, file.label, 1))
    except (DataError, StopIteration):
        return []


def is_episodes(names: Sequence[str]) -> bool:
    """Whether features of these names are a whole recording in lists, and not BAIR's own form."""
    return any(name.startswith(("image_", "steps/")) for name in names)


def episodes(source: Source, camera: str | None, state: str | None) -> list[Recording]:
    """The recordings of a source.

    Args:
        camera: name of the pictures, such as `image_main` or `wrist_image`; None takes the usual.
        state: name of the positions, such as `state`; None takes the usual.

    Raises:
        DataError: a file is damaged.
    """
    assert source.files is not None
    several = len({file.split for file in source.files}) > 1 or any(
        file.split != "train" for file in source.files
    )
    found = []
    for file in source.files:
        with open_at(file) as stream:
            spans = list(scan_records(stream, file.label, file.size, LONGEST))
        for span in spans:
            name = f"{file.trajectories}/{span.number - 1}"
            read = functools.partial(_read, file, span, camera, state)
            found.append(Recording(name, read, file.split if several else None))
    return found


def _read(file: RecordFile, span: Span, camera: str | None, state: str | None) -> Material:
    with open_at(file) as stream:
        stream.seek(span.offset)
        data = read_data(stream, span.length, file.label, span.number)
    features = parse_example(data, file.label, span.number)
    label = f"{file.label}, record {span.number}"
    prefix = "steps/" if any(name.startswith("steps/") for name in features) else ""
    pictures = _pictures(features, prefix, camera, label)
    count = len(pictures)
    actions, names = _table(features, [f"{prefix}action"], count, label)
    if state is not None:
        wanted = [name for name in features if name.split("/")[-1] == state or name == state]
        if not wanted:
            there = ", ".join(name for name in features if "action" not in name)[:200]
            raise DataError(f"has no feature {state}", file=label, hint=f"there are: {there}")
    else:
        wanted = ["endeffector_pos", f"{prefix}observation/state"]
    positions, places = _table(features, wanted, count, label)
    frames = (decode_picture(data, n, label) for n, data in enumerate(pictures))
    return Material(label, frames, actions, positions, names, places)


def _pictures(
    features: Mapping[str, Any], prefix: str, camera: str | None, label: str
) -> Sequence[bytes]:
    """The encoded pictures of one camera."""
    cameras = {
        name: values
        for name, values in features.items()
        if isinstance(values[:1], list | tuple | Sequence)
        and len(values)
        and isinstance(values[0], bytes)
        and values[0].startswith(_PICTURE)
    }
    usual = [f"{prefix}observation/image", f"{prefix}image_aux1", *sorted(cameras)]
    if camera is not None:
        usual = [n for n in cameras if n.split("/")[-1] in (camera, f"image_{camera}")]
    name = next((name for name in usual if name in cameras), None)
    if name is None:
        there = ", ".join(sorted(cameras)) or "no PNG or JPEG pictures"
        what = "has no pictures" if camera is None else f"has no pictures called {camera}"
        raise DataError(what, file=label, hint=f"there are: {there}; --camera names one")
    return cameras[name]


def _table(
    features: Mapping[str, Any], names: Sequence[str], count: int, label: str
) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """The numbers of the first of those features, a row a frame, with the names of the columns
    where an action has named parts."""
    for name in names:
        parts = {name: features[name]} if name in features else {}
        parts = parts or {n: v for n, v in sorted(features.items()) if n.startswith(f"{name}/")}
        columns, tables = [], []
        for part, values in parts.items():
            if not len(values) or isinstance(values[0], bytes):
                continue
            if len(values) % count:
                what = f"has {len(values)} numbers in {part} for {count} pictures"
                raise DataError(what, file=label, hint="every frame needs as many numbers")
            table = np.asarray(values, np.float64).reshape(count, -1)
            tables.append(table)
            word, width = part.removeprefix(f"{name}/"), table.shape[1]
            columns += [word] if width == 1 else [f"{word}_{n}" for n in range(1, width + 1)]
        if tables:
            named = tuple(columns) if name not in parts else None
            return np.concatenate(tables, axis=1), named
    return None, None


def decode_picture(data: bytes, number: int, label: str) -> np.ndarray:
    """One picture (H, W, 3)."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"it claims to be {image.width}x{image.height}")
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # pillow lets out whatever its decoders raise
        what = f"picture {number} cannot be decoded: {error}"
        raise DataError(what, file=label, hint="it is damaged: download it again") from None
