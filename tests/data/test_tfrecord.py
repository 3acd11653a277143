"""Reading TFRecord files and BAIR's examples in them, whole and broken."""

from __future__ import annotations

import io
import struct
import tracemalloc

import numpy as np
import pytest
from bair_records import example, features, framed, without, write_records
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.data.clip import Clip
from labkit.data.convert import example as convert_example
from labkit.data.convert.example import read_example
from labkit.data.convert.tfrecord import masked_crc, read_records, scan_records
from labkit.errors import DataError

NAME = "traj_0_to_255.tfrecords"


def clips_of(data: bytes, size: int | None = None) -> list[Clip]:
    """The clips of a whole file, read as a stream."""
    records = read_records(io.BytesIO(data), NAME, size)
    return [read_example(record, NAME, n) for n, record in enumerate(records, 1)]


# ------------------------------------------------------------------------------ whole files


def test_masked_crc_has_the_published_values():
    # RFC 3720 B.4: the CRC32C of 32 zero bytes is 8a9136aa; the rotation and the shift by hand.
    crc = 0x8A9136AA
    assert masked_crc(bytes(32)) == ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


@pytest.mark.parametrize("camera", ["aux1", "main"])
def test_clips_of_another_writer_arrive_unchanged(tmp_path, camera):
    made = [features(number, ("aux1", "main")) for number in range(3)]
    file = write_records(tmp_path / NAME, made)
    with file.open("rb") as stream:
        records = list(read_records(stream, file, file.stat().st_size))
    assert len(records) == 3
    for number, (record, values) in enumerate(zip(records, made, strict=True)):
        clip = read_example(record, file, number + 1, camera, f"clip {number}")
        assert clip.name == f"clip {number}"
        assert clip.frames.shape == (30, 3, 64, 64)
        for i in (0, 9, 10, 29):
            pixels = clip.frames[i].transpose(1, 2, 0).tobytes()
            assert pixels == values[f"{i}/image_{camera}/encoded"][0]
            for rows, key in ((clip.actions, "action"), (clip.positions, "endeffector_pos")):
                np.testing.assert_array_equal(rows[i], values[f"{i}/{key}"][0].astype(np.float32))


def test_scan_finds_the_records_without_reading_them(tmp_path):
    file = write_records(tmp_path / NAME, [features(0), features(1, ("aux1", "main"))])
    data = file.read_bytes()
    spans = list(scan_records(io.BytesIO(data), file, len(data)))
    assert [span.number for span in spans] == [1, 2]
    assert spans[1].length > 1.9 * spans[0].length
    for (_, offset, length), record in zip(
        spans, read_records(io.BytesIO(data), file), strict=True
    ):
        assert data[offset : offset + length] == record


class Dribble(io.RawIOBase):
    """A raw stream that gives at most 1,000 bytes at a time, as a socket may."""

    def __init__(self, data: bytes) -> None:
        self.inner = io.BytesIO(data)

    def read(self, size=-1):
        return self.inner.read(min(size, 1000))


def test_a_stream_may_give_its_bytes_in_pieces():
    record = example(features())
    assert list(read_records(Dribble(framed(record)), NAME)) == [record]


def test_an_empty_stream_has_no_records():
    assert clips_of(b"") == []


# ------------------------------------------------------------------------- broken framing


RECORD = framed(example(features()))


def flipped(place: int) -> bytes:
    data = bytearray(RECORD + RECORD)
    data[place] ^= 0x10
    return bytes(data)


LONG = struct.pack("<Q", 1 << 60)


@pytest.mark.parametrize(
    ("data", "number", "words"),
    [
        (b"<!DOCTYPE html><html>", 1, "length of record 1.*no TFRecord file, or damaged"),
        (RECORD[:5], 1, "the file ends within record 1.*incomplete"),
        (RECORD[:-1], 1, "the file ends within record 1"),
        (RECORD + RECORD[:12], 2, "the file ends within record 2"),
        (RECORD + RECORD[:1000], 2, "the file ends within record 2"),
        (flipped(0), 1, "length of record 1 does not fit its checksum"),
        (flipped(8), 1, "length of record 1 does not fit its checksum"),
        (flipped(len(RECORD) + 3), 2, "length of record 2 does not fit.*download it again"),
        (flipped(5000), 1, "data of record 1 does not fit its checksum"),
        (flipped(len(RECORD) - 1), 1, "data of record 1 does not fit its checksum"),
        (RECORD + bytes(16), 2, "length of record 2 does not fit its checksum"),
        (LONG + struct.pack("<I", masked_crc(LONG)), 1, "record 1 claims 1,152,921,504"),
    ],
)
def test_broken_framing_is_named(data, number, words):
    errors = []
    for size in (None, len(data)):
        with pytest.raises(DataError, match=words) as error:
            clips_of(data, size)
        assert (error.value.file, error.value.row) == (NAME, number)
        assert error.value.hint
        errors.append(str(error.value))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("data", [RECORD[:-1], RECORD + RECORD[:1000], RECORD + RECORD[:5]])
def test_scan_notices_an_unfinished_last_record(data):
    with pytest.raises(DataError, match="the file ends within record"):
        list(scan_records(io.BytesIO(data), NAME, len(data)))


@pytest.mark.parametrize(("length", "size"), [(1 << 40, None), (1 << 23, 1 << 20)])
def test_memory_is_not_set_aside_for_a_length_that_cannot_be(length, size):
    header = struct.pack("<Q", length)
    stream = io.BytesIO(header + struct.pack("<I", masked_crc(header)) + bytes(1000))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="record 1"):
            list(read_records(stream, NAME, size))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_cannot_be_read_is_an_error_of_ours():
    class Failing(io.RawIOBase):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

    with pytest.raises(DataError, match="cannot be read: Input/output error"):
        list(read_records(Failing(), NAME))


# ------------------------------------------------------------------------ broken examples


def with_(**changes):
    return features() | {key.replace("__", "/"): value for key, value in changes.items()}


IMAGE = "7/image_aux1/encoded"
PIXELS = bytes(64 * 64 * 3)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (features(frames=29), "record 4 has 29 frames .BAIR's clips have 30"),
        (features(frames=31), "record 4 has 31 frames"),
        ({}, "no feature 0/image_aux1/encoded .*its features: none"),
        (features(cameras=["main"]), "has no feature 0/image_aux1/encoded"),
        ({"label": (3, "int")}, "no feature 0/image_aux1/encoded .*its features: label"),
        (without(features(), IMAGE), f"record 4 has no feature {IMAGE}"),
        (without(features(), "29/action"), "has no feature 29/action"),
        (without(features(), "0/endeffector_pos"), "has no feature 0/endeffector_pos"),
        (without(features(), *[k for k in features() if k.startswith("7/")]), "has no frame 7"),
        (with_() | {"800000000/action": ([0.0] * 4, "float")}, "has 31 frames"),
        (with_() | {IMAGE: (PIXELS[:-1], "byte")}, f"has 12287 bytes in {IMAGE}.*expected 12288"),
        (with_() | {IMAGE: (PIXELS * 4, "byte")}, "has 49152 bytes in"),
        (with_() | {IMAGE: ([PIXELS, PIXELS], "byte")}, "has 12288, 12288 bytes in"),
        (with_() | {IMAGE: ([], "byte")}, "has no bytes in"),
        (with_() | {IMAGE: ([1.0], "float")}, "has no bytes in"),
        (with_() | {"3/action": ([1.0] * 5, "float")}, "has 5 floats in 3/action .expected 4"),
        (with_() | {"3/action": ([1, 2, 3, 4], "int")}, "has no floats in 3/action"),
        (with_() | {"3/endeffector_pos": ([1.0] * 2, "float")}, "2 floats in 3/endeffector_pos"),
        (with_() | {"3/action": ([1, 2, np.nan, 4], "float")}, "3/action that is not finite"),
        (with_() | {"3/endeffector_pos": ([1, 2, np.inf], "float")}, "that is not finite"),
    ],
)
def test_a_broken_example_is_named(made, words):
    with pytest.raises(DataError, match=words) as error:
        read_example(example(made), NAME, 4)
    assert (error.value.file, error.value.row) == (NAME, 4)
    assert "record 4" in str(error.value)
    assert error.value.hint


@pytest.mark.parametrize("data", [b"hello, no protobuf", b"\x0a\xff\xff\xff\x7f"])
def test_what_is_no_example_is_named(data):
    with pytest.raises(DataError, match=r"record 1 is no tensorflow\.Example"):
        read_example(data, NAME, 1)


def test_declaring_the_message_type_once_serves_for_all():
    assert convert_example._example_type() is convert_example._example_type()


# --------------------------------------------------------------------------------- fuzzing

DATA = example(features())
KEYS = [at for at in range(len(DATA)) if DATA.startswith((b"/action", b"/endef", b"/image"), at)]
FUZZ = settings(
    max_examples=5_000,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)

cuts = st.tuples(
    st.sampled_from(["delete", "repeat", "insert", "flip", "end"]), st.binary(max_size=9)
)


def mutated(data: bytes, changes: list, places: list[int]) -> bytes:
    for (kind, some), place in zip(changes, places, strict=False):
        place %= len(data) + 1
        count = len(some)
        head, tail = data[:place], data[place:]
        if kind == "delete":
            data = head + tail[count:]
        elif kind == "repeat":
            data = head + tail[:count] * 2 + tail[count:]
        elif kind == "insert":
            data = head + some + tail
        elif kind == "flip":
            data = head + bytes(a ^ b for a, b in zip(tail, some, strict=False)) + tail[count:]
        else:
            data = head
    return data


def near(spots: list[int], length: int) -> st.SearchStrategy[list[int]]:
    """Places close to where the structure is, and anywhere."""
    close = st.builds(lambda a, b: a + b, st.sampled_from(spots), st.integers(-12, 24))
    place = st.one_of(close.filter(lambda at: at >= 0), st.integers(0, length))
    return st.lists(place, min_size=3, max_size=3)


def outcome(work) -> str:
    """What comes of it; anything but clips or an error of ours is raised."""
    try:
        clips = work()
    except DataError as error:
        return "error" if error.hint and error.row else f"an error that does not help: {error}"
    for clip in clips:
        assert clip.frames.shape == (30, 3, 64, 64)
        assert np.isfinite(clip.actions).all()
        assert np.isfinite(clip.positions).all()
    return "clips"


@pytest.mark.fuzz
def test_5000_mutated_files_give_clips_or_errors():
    seen = set()
    spots = [0, 8, 12, len(RECORD) - 4, len(RECORD)]

    @FUZZ
    @given(st.lists(cuts, min_size=1, max_size=3), near(spots, len(RECORD)))
    def run(changes, places):
        data = mutated(RECORD, changes, places)
        seen.add(outcome(lambda: clips_of(data, len(data) if len(data) % 2 else None)))

    run()
    assert seen == {"clips", "error"}


@pytest.mark.fuzz
def test_5000_mutated_examples_give_clips_or_errors():
    """Their checksums fit: what is wrong is inside."""
    seen = set()

    @FUZZ
    @given(st.lists(cuts, min_size=1, max_size=3), near(KEYS, len(DATA)))
    def run(changes, places):
        data = mutated(DATA, changes, places)
        seen.add(outcome(lambda: [read_example(data, NAME, 1)]))

    run()
    assert seen == {"clips", "error"}
