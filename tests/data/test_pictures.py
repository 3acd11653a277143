"""PNGs of every kind become 8-bit RGB; what is no PNG is named for what it is."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from labkit.data.layout.pictures import MOST_PIXELS, read_picture, read_pictures
from labkit.errors import DataError

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)

DEEP = [0, 1, 128, 129, 255, 257, 385, 386, 32767, 32768, 65406, 65407, 65535]
ROUNDED = [0, 0, 0, 1, 1, 1, 1, 2, 127, 128, 254, 255, 255]
"""16-bit values, and the same / 257, rounded"""


def png(picture: Image.Image, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", **options)
    return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def raw_png(width: int, height: int, depth: int, kind: int, rows: bytes) -> bytes:
    """A PNG with any header, written by hand: rows as they are stored, one filter byte each."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + body


@pytest.fixture
def read(tmp_path):
    def read_bytes(data: bytes) -> np.ndarray:
        (tmp_path / "0.png").write_bytes(data)
        return read_picture(tmp_path / "0.png")

    return read_bytes


def test_rgb_is_read_as_it_is(read):
    picture = read(png(Image.fromarray(COLOURS)))
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, COLOURS.transpose(2, 0, 1))


def test_grey_and_one_bit_become_three_equal_channels(read):
    grey = COLOURS[..., 0]
    np.testing.assert_array_equal(read(png(Image.fromarray(grey))), np.stack([grey] * 3))
    bits = grey > 99
    np.testing.assert_array_equal(read(png(Image.fromarray(bits))), np.stack([bits * 255] * 3))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("alpha", [0, 7, 255])
def test_transparency_is_dropped_not_blended(read, mode, alpha):
    picture = Image.fromarray(COLOURS).convert(mode)
    expected = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    picture.putalpha(alpha)
    np.testing.assert_array_equal(read(png(picture)), expected)


@pytest.mark.parametrize("transparency", [None, 3, b"\0\x7f\xff"])
def test_a_palette_gives_its_colours(read, transparency):
    picture = Image.fromarray(COLOURS).quantize(4)
    options = {} if transparency is None else {"transparency": transparency}
    np.testing.assert_array_equal(
        read(png(picture, **options)), np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    )


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_colour_stays_that_colour(read, mode):
    picture = Image.fromarray(COLOURS).convert(mode)
    colour = picture.getpixel((0, 0))
    expected = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(read(png(picture, transparency=colour)), expected)


def test_16_bit_grey_is_scaled_not_clipped(read):
    picture = read(png(Image.fromarray(np.array([DEEP], np.uint16))))
    assert picture.tolist() == [[ROUNDED]] * 3
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(every / 257).astype(np.uint8)
    np.testing.assert_array_equal(read(png(Image.fromarray(every))), np.stack([expected] * 3))


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_colours_keep_their_upper_8_bits(read, kind, channels):
    def deep(values):
        cells = np.repeat(np.array(values, ">u2")[:, None], channels, 1)
        return read(raw_png(len(values), 1, 16, kind, b"\0" + cells.tobytes()))

    eight = np.arange(256)
    assert deep(eight * 257).tolist() == [[eight.tolist()]] * 3  # 8 bits written as 16
    assert (np.abs(deep(DEEP)[0, 0] - np.array(DEEP) / 257) < 1).all()


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_of_few_bits_reaches_from_black_to_white(read, depth):
    picture = read(raw_png(8 // depth, 1, depth, 0, b"\0" + bytes([0b00011011])))
    levels = (1 << depth) - 1
    values = [(0b00011011 >> shift) & levels for shift in range(8 - depth, -1, -depth)]
    assert picture.tolist() == [[[value * 255 // levels for value in values]]] * 3


# ------------------------------------------------------------------------------- faults

WHOLE = png(Image.fromarray(COLOURS))


def other(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(COLOURS).save(stream, kind)
    return stream.getvalue()


FAULTS = {
    "no bytes": (b"", "not a readable PNG: it has no bytes"),
    "text": (b"hello", "not a readable PNG: it holds something else"),
    "a page": (b"<!DOCTYPE html>", "not a readable PNG"),
    "only its first bytes": (WHOLE[:20], "not a readable PNG"),
    "half of it": (WHOLE[: len(WHOLE) // 2], "not a readable PNG: it is damaged or ends too early"),
    "without its end": (WHOLE[:-40], "not a readable PNG"),
    "a bit flipped": (WHOLE[:60] + bytes([WHOLE[60] ^ 1]) + WHOLE[61:], "not a readable PNG"),
    "a JPEG": (other("JPEG"), "is a JPEG with the ending of a PNG"),
    "a GIF": (other("GIF"), "is a GIF"),
    "a BMP": (other("BMP"), "is a BMP"),
    "a WebP": (other("WEBP"), "is a WebP"),
    "a TIFF": (other("TIFF"), "is a TIFF"),
    "no pixels": (raw_png(0, 0, 8, 2, b""), "not a readable PNG"),
    "a huge picture": (raw_png(2**31 - 1, 2**31 - 1, 8, 2, b"\0"), "claims to be 2147483647x"),
    "a large picture": (raw_png(12_000, 12_000, 8, 2, b"\0"), "claims to be 12000x12000"),
    "an animation": (
        png(Image.fromarray(COLOURS), save_all=True, append_images=[Image.new("RGB", (8, 6))]),
        "is an animated PNG",
    ),
    "colours of 3 bits": (raw_png(8, 6, 3, 2, b"\0" * 60), "not a readable PNG"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_no_readable_png_is_told_with_what_mends_it(read, tmp_path, name):
    data, words = FAULTS[name]
    with pytest.raises(DataError, match=words) as caught:
        read(data)
    assert caught.value.file == tmp_path / "0.png"
    assert caught.value.hint


def forbids(patch, file):
    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    file.write_bytes(WHOLE)
    patch.setattr("labkit.data.layout.plain_files.os.open", refuse)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda patch, file: None, "no such file"),
        (lambda patch, file: file.mkdir(), "is a folder"),
        (lambda patch, file: os.symlink(file, file), "link that leads in a circle"),
        (lambda patch, file: os.symlink("nowhere", file), "link to nothing"),
        (lambda patch, file: os.mkfifo(file), "is a pipe"),
        (forbids, "may not be read"),
    ],
)
def test_what_is_no_plain_file_is_named(tmp_path, monkeypatch, make, words):
    make(monkeypatch, tmp_path / "3.png")
    with pytest.raises(DataError, match=words) as caught:
        read_picture(tmp_path / "3.png")
    assert caught.value.file == tmp_path / "3.png"
    assert caught.value.hint


def test_the_first_picture_of_another_size_is_named(tmp_path):
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file, width in zip(files, (64, 64, 63), strict=True):
        Image.new("RGB", (width, 64)).save(file)
    with pytest.raises(DataError, match=r"2\.png: is 63x64 where 0\.png is 64x64"):
        read_pictures(files)
    assert read_pictures(files[:2]).shape == (2, 3, 64, 64)
    assert read_pictures([]).shape == (0, 3, 0, 0)


SEEDS = [
    png(Image.fromarray(COLOURS).convert(mode)) for mode in ("RGB", "RGBA", "P", "L", "LA", "1")
]
SEEDS.append(png(Image.fromarray(np.array([DEEP], np.uint16))))


def with_checksums(data: bytearray) -> bytes:
    """The same bytes with every chunk's checksum made right, so that what is inside is read."""
    place = 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4])
        end = place + 8 + length
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[place + 4 : end]).to_bytes(4)
        place = end + 4
    return bytes(data)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(8, 200), st.integers(0, 255)), max_size=4),
    st.one_of(st.none(), st.integers(0, 200)),
    st.booleans(),
)
def test_a_damaged_png_is_a_picture_or_our_error(tmp_path_factory, data, changes, end, repaired):
    changed = bytearray(data[:end])
    for place, value in changes:
        if changed:
            changed[place % len(changed)] = value
    file = tmp_path_factory.getbasetemp() / "damaged.png"
    file.write_bytes(with_checksums(changed) if repaired else bytes(changed))
    try:
        picture = read_picture(file)
    except DataError:
        return
    assert picture.dtype == np.uint8
    assert 0 < picture.size <= 3 * MOST_PIXELS
