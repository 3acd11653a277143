"""The framing of TFRecord files, without TensorFlow.

    file    = record record ...
    record  = length (uint64) · masked CRC32C of the 8 bytes of length · data · that of the data

All numbers are little-endian. Source: tensorflow.org/tutorials/load_data/tfrecord, "TFRecords
format details".
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import google_crc32c

from labkit.errors import DataError

Stream = io.RawIOBase | io.BufferedIOBase

HEADER = 12
"""bytes before a record's data: its length and the checksum of the length"""
FOOTER = 4
"""bytes after it: the checksum of the data"""
LONGEST = 1 << 24
"""bytes of data above which a record is not read at all; BAIR's have about 740,000"""

AGAIN = "the file is damaged: download it again"
"""the hint for a record that has changed"""


class Span(NamedTuple):
    """Where a record lies in its stream."""

    number: int
    """counted from 1"""
    offset: int
    """bytes from the beginning of the stream to the data"""
    length: int
    """bytes of data"""


def scan_records(
    stream: Stream, file: Path | str, size: int, longest: int = LONGEST
) -> Iterator[Span]:
    """Finds the records of a stream by their headers alone, passing over the data.

    Args:
        stream: a stream that can seek forwards, at the beginning of its first record.
        file: its name, for messages.
        size: bytes in the stream.
        longest: bytes of data that a record may have.

    Raises:
        DataError: a header is damaged, or the file ends within a record.
    """
    start, number = stream.tell(), 1
    position = start
    while (
        length := _read_length(stream, file, number, start + size - position, longest)
    ) is not None:
        yield Span(number, position + HEADER, length)
        position += HEADER + length + FOOTER
        stream.seek(position)
        number += 1


def read_records(stream: Stream, file: Path | str, size: int | None = None) -> Iterator[bytes]:
    """Yields the data of each record of a stream, which need not be able to seek.

    Both checksums of every record are compared. One record at a time is in memory.

    Args:
        stream: the stream, at the beginning of its first record.
        file: its name, for messages.
        size: bytes in the stream, where that is known: a length beyond it is not believed.

    Raises:
        DataError: a checksum does not fit, or the file ends within a record.
    """
    position, number = 0, 1
    while True:
        left = None if size is None else size - position
        length = _read_length(stream, file, number, left)
        if length is None:
            return
        yield read_data(stream, length, file, number)
        position += HEADER + length + FOOTER
        number += 1


def _read_length(
    stream: Stream,
    file: Path | str,
    number: int,
    left: int | None = None,
    longest: int = LONGEST,
) -> int | None:
    """The length of the next record's data, checked; None at the end of the stream."""
    if left == 0:  # in an archive something else follows
        return None
    header = _read(stream, HEADER, file)
    if not header:
        return None
    if len(header) < HEADER:
        raise _cut_short(file, number)
    length, checksum = struct.unpack("<QI", header)
    if masked_crc(header[:8]) != checksum:
        what = f"the length of record {number} does not fit its checksum"
        hint = "it is no TFRecord file, or damaged: download it again" if number == 1 else AGAIN
        raise DataError(what, file=file, row=number, hint=hint)
    # Both tests come before any byte is set aside for the data.
    if length > longest:
        what = f"record {number} claims {length:,} bytes"
        hint = f"BAIR's have under a million, and at most {longest:,} are read"
        raise DataError(what, file=file, row=number, hint=hint)
    if left is not None and HEADER + length + FOOTER > left:
        raise _cut_short(file, number)
    return length


def read_data(stream: Stream, length: int, file: Path | str, number: int) -> bytes:
    """Reads the data of one record, whose header was read before, and compares its checksum.

    Raises:
        DataError: the checksum does not fit, or the file ends before.
    """
    data, footer = _read(stream, length, file), _read(stream, FOOTER, file)
    if len(data) < length or len(footer) < FOOTER:
        raise _cut_short(file, number)
    if masked_crc(data) != struct.unpack("<I", footer)[0]:
        what = f"the data of record {number} does not fit its checksum"
        raise DataError(what, file=file, row=number, hint=AGAIN)
    return data


def masked_crc(data: bytes) -> int:
    """The CRC32C of `data`, rotated by 15 bits and shifted: TFRecord stores it this way because
    a CRC of data that contains CRCs is a weak one."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _cut_short(file: Path | str, number: int) -> DataError:
    what = f"the file ends within record {number}"
    return DataError(what, file=file, row=number, hint="it is incomplete: download it again")


def _read(stream: Stream, count: int, file: Path | str) -> bytes:
    """`count` bytes, or fewer at the end of the stream: a raw stream may give them in pieces."""
    data = b""
    try:
        while len(data) < count and (more := stream.read(count - len(data))):
            data = data + more if data else more
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", file=file) from None
    return data
