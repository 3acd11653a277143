"""BAIR's records -> clips: what is inside a TFRecord, without TensorFlow.

The data of a record is a `tensorflow.Example`, a protocol buffer that maps names to lists of
bytes, floats or integers. BAIR's have for each frame i of 30:

    {i}/image_aux1/encoded   64*64*3 bytes, not compressed (`image_main`: the other camera)
    {i}/action               4 floats
    {i}/endeffector_pos      3 floats
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from jaxtyping import Float32, UInt8

from labkit.data.clip import Clip
from labkit.data.convert.tfrecord import AGAIN
from labkit.errors import DataError

Camera = Literal["aux1", "main"]

FRAMES = 30
"""frames in every clip of BAIR"""
SIZE = 64
"""height and width of its pictures"""


@functools.cache
def _example_type() -> Any:
    """The message type `Example`, declared here instead of in a generated file.

    On the wire only the numbers and kinds of the fields count, so the names may be our own; a
    map is a list of (key, value) messages.
    """
    kind = descriptor_pb2.FieldDescriptorProto
    one, many = kind.LABEL_OPTIONAL, kind.LABEL_REPEATED
    file = descriptor_pb2.FileDescriptorProto(
        name="labkit/example.proto", package="labkit", syntax="proto3"
    )

    def message(name: str, *fields: tuple[str, int, Any], into: Any = file.message_type) -> Any:
        made = into.add(name=name)
        for number, (field, label, of) in enumerate(fields, 1):
            typed = {"type": of} if isinstance(of, int) else {"type_name": f".labkit.{of}"}
            if isinstance(of, str):
                typed["type"] = kind.TYPE_MESSAGE
            made.field.add(name=field, number=number, label=label, **typed)
        return made

    message("BytesList", ("value", many, kind.TYPE_BYTES))
    message("FloatList", ("value", many, kind.TYPE_FLOAT))
    message("Int64List", ("value", many, kind.TYPE_INT64))
    feature = message(
        "Feature",
        ("bytes_list", one, "BytesList"),
        ("float_list", one, "FloatList"),
        ("int64_list", one, "Int64List"),
    )
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = message("Features", ("feature", many, "Features.FeatureEntry"))
    entry = message(
        "FeatureEntry",
        ("key", one, kind.TYPE_STRING),
        ("value", one, "Feature"),
        into=features.nested_type,
    )
    entry.options.map_entry = True
    message("Example", ("features", one, "Features"))

    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("labkit.Example"))


class _Record(NamedTuple):
    """Which record it is, for messages."""

    file: Path | str
    number: int

    def fault(self, what: str, hint: str) -> DataError:
        """The error for what is wrong with it."""
        return DataError(f"record {self.number} {what}", file=self.file, row=self.number, hint=hint)


def parse_example(data: bytes, file: Path | str, number: int) -> dict[str, Any]:
    """The features of a record's `Example`: for each name its list of bytes, floats or integers.

    Raises:
        DataError: it is no `Example`.
    """
    features = _features(data, _Record(file, number))
    kinds = ("bytes_list", "float_list", "int64_list")
    return {
        name: next((getattr(f, kind).value for kind in kinds if f.HasField(kind)), ())
        for name, f in features.items()
    }


def _features(data: bytes, record: _Record) -> Any:
    try:
        return _example_type().FromString(data).features.feature
    except DecodeError:
        hint = "labkit reads BAIR's own files, or their copies"
        raise record.fault("is no tensorflow.Example", hint) from None


def read_example(
    data: bytes, file: Path | str, number: int, camera: Camera = "aux1", name: str = ""
) -> Clip:
    """Makes a clip of the data of one record.

    Args:
        data: the record's data, an `Example`.
        file: the file it is from, for messages.
        number: its number in that file, counted from 1.
        camera: whose pictures to take.
        name: name of the clip.

    Returns:
        A clip of 30 frames (30, 3, 64, 64) with actions (30, 4) and positions (30, 3).

    Raises:
        DataError: a frame or a feature is missing, a picture is not 64*64*3 bytes, an action is
            not 4 finite numbers or a position not 3.
    """
    record = _Record(file, number)
    features = _features(data, record)
    image = f"image_{camera}/encoded"
    _check_frames(features, [image, "action", "endeffector_pos"], record)
    return Clip(
        frames=_pictures(features, image, record),
        actions=_table(features, "action", 4, record),
        positions=_table(features, "endeffector_pos", 3, record),
        name=name,
    )


def _check_frames(features: Any, keys: list[str], record: _Record) -> None:
    """Raises DataError unless the features are those of frames 0 to 29, each with every key."""
    numbered = re.compile(rf"(0|[1-9][0-9]{{0,8}})/({'|'.join(map(re.escape, keys))})")
    found = [match for name in features if (match := numbered.fullmatch(name))]
    frames = {int(match[1]) for match in found}
    if not frames:
        there_are = ", ".join(sorted(features)[:4]) or "none"
        raise record.fault(
            f"has no feature 0/{keys[0]}", f"it is not of BAIR; its features: {there_are}"
        )
    gaps = set(range(min(max(frames) + 1, FRAMES))) - frames
    if gaps:
        raise record.fault(
            f"has no frame {min(gaps)}", f"BAIR's clips have frames 0 to {FRAMES - 1}"
        )
    if len(frames) != FRAMES:
        raise record.fault(f"has {len(frames)} frames", f"BAIR's clips have {FRAMES}")
    for i in range(FRAMES):
        for key in keys:
            if f"{i}/{key}" not in features:
                raise record.fault(f"has no feature {i}/{key}", "every frame needs it")


def _pictures(features: Any, key: str, record: _Record) -> UInt8[np.ndarray, "30 3 64 64"]:
    expected = SIZE * SIZE * 3
    pictures = np.empty((FRAMES, SIZE, SIZE, 3), np.uint8)
    for i in range(FRAMES):
        values = features[f"{i}/{key}"].bytes_list.value
        if len(values) != 1 or len(values[0]) != expected:
            sizes = ", ".join(str(len(value)) for value in values[:3]) or "no"
            hint = f"expected {expected}: {SIZE} x {SIZE} pixels x 3, not compressed"
            raise record.fault(f"has {sizes} bytes in {i}/{key}", hint)
        pictures[i] = np.frombuffer(values[0], np.uint8).reshape(SIZE, SIZE, 3)
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))


def _table(features: Any, key: str, columns: int, record: _Record) -> Float32[np.ndarray, "30 C"]:
    rows = [features[f"{i}/{key}"].float_list.value for i in range(FRAMES)]
    for i, row in enumerate(rows):
        if len(row) != columns:
            what = f"has {len(row) or 'no'} floats in {i}/{key}"
            raise record.fault(what, f"expected {columns}")
    table = np.array([list(row) for row in rows], np.float32)
    if not np.isfinite(table).all():
        i = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
        raise record.fault(f"has a number in {i}/{key} that is not finite", AGAIN)
    return table
