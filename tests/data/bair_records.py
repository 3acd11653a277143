"""BAIR's records as another program writes them: the `tfrecord` package, which is not labkit's."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tfrecord import TFRecordWriter
from tfrecord.example_pb2 import Example

Features = dict[str, tuple[Any, str]]


def features(number: int = 0, cameras: Iterable[str] = ("aux1",), frames: int = 30) -> Features:
    """The features of one clip of noise, the same for the same number."""
    random = np.random.default_rng(number)
    made: Features = {}
    for i in range(frames):
        for camera in cameras:
            made[f"{i}/image_{camera}/encoded"] = (random.bytes(64 * 64 * 3), "byte")
        made[f"{i}/action"] = (random.normal(size=4), "float")
        made[f"{i}/endeffector_pos"] = (random.normal(size=3), "float")
    return made


def example(made: Features) -> bytes:
    """A serialized tf.train.Example."""
    return TFRecordWriter.serialize_tf_example(made)


def framed(data: bytes) -> bytes:
    """A record's data with its length and its checksums."""
    length = struct.pack("<Q", len(data))
    crc = TFRecordWriter.masked_crc
    return length + crc(length) + data + crc(data)


def write_records(file: Path, made: Iterable[Features]) -> Path:
    """Writes a file of records."""
    file.parent.mkdir(parents=True, exist_ok=True)
    writer = TFRecordWriter(str(file))
    for one in made:
        writer.write(one)
    writer.close()
    return file


def without(made: Features, *names: str) -> Features:
    """The features but for some."""
    return {name: value for name, value in made.items() if name not in names}


def parsed(data: bytes) -> Example:
    """The example, to change it."""
    return Example.FromString(data)
