"""PNG and JPEG files -> arrays."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from labkit.data.layout.plain_files import read_plain
from labkit.errors import DataError

MOST_PIXELS = 4096 * 4096
"""pixels a picture may have: a few bytes can claim to be gigabytes of them"""
MOST_BYTES = 1 << 28

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_OTHERS = {
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"RIFF": "WebP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
"""first bytes of other kinds of picture"""
_BROKEN = (
    OSError,
    SyntaxError,  # pillow's word for a broken header
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""what pillow raises for a damaged PNG"""


def read_pictures(files: list[Path]) -> UInt8[np.ndarray, "T 3 H W"]:
    """Reads a clip's pictures in the order given.

    Raises:
        DataError: one cannot be read, or is of another size than the first.
    """
    frames = None
    for number, file in enumerate(files):
        picture = read_picture(file)
        if frames is None:
            frames = np.empty((len(files), *picture.shape), np.uint8)
        if picture.shape != frames.shape[1:]:
            (_, height, width), (_, h, w) = frames.shape[1:], picture.shape
            what = f"is {w}x{h} where {files[0].name} is {width}x{height}"
            raise DataError(what, file=file, hint="all frames of a clip must have one size")
        frames[number] = picture
    return np.empty((0, 3, 0, 0), np.uint8) if frames is None else frames


def read_picture(file: Path) -> UInt8[np.ndarray, "3 H W"]:
    """Reads a PNG of any kind, or a JPEG where the name ends so, as 8-bit RGB.

    Grey, 1-bit and palette pictures become RGB. Transparency is dropped, not blended: the colour
    below it counts. 16 bits a channel become 8, 65535 becoming 255: grey by value / 257, rounded
    (pillow alone would clip it at 255); of colours, and of grey with alpha, pillow keeps the upper
    8 bits, which is the same or one step of 255 darker.

    Raises:
        DataError: of another kind than its ending says, damaged, animated, or of more than
            `MOST_PIXELS` pixels.
    """
    data = read_plain(file, MOST_BYTES)
    jpeg = file.suffix.lower() in (".jpg", ".jpeg")
    if not jpeg:
        _check_head(file, data)
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG" if jpeg else "PNG"]) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise _too_large(file, width, height)
            return _rgb(image).transpose(2, 0, 1)
    except _BROKEN:
        raise _unreadable(file, "it is damaged or ends too early") from None


def _rgb(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    if image.mode.startswith("I"):  # grey of 16 bits
        grey = np.asarray(image).astype(np.uint32)  # (H, W)
        return np.repeat(((grey * 255 + 32767) // 65535).astype(np.uint8)[..., None], 3, axis=2)
    image.info.pop("transparency", None)  # pillow warns of it where it drops it
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _check_head(file: Path, data: bytes) -> None:
    """Raises DataError where the first bytes tell that this is nothing to decode."""
    if not data:
        raise _unreadable(file, "it has no bytes")
    if not data.startswith(_SIGNATURE):
        for start, kind in _OTHERS.items():
            if data.startswith(start):
                hint = "extract the frames as PNG: a new name does not convert a picture"
                raise DataError(f"is a {kind} with the ending of a PNG", file=file, hint=hint)
        raise _unreadable(file, "it holds something else")
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise _unreadable(file, "it is damaged or ends too early")
    width, height = struct.unpack_from(">II", data, 16)
    if width * height > MOST_PIXELS:
        raise _too_large(file, width, height)
    if data.find(b"acTL", 33, data.find(b"IDAT")) > 0:
        hint = "give every frame a file of its own"
        raise DataError("is an animated PNG", file=file, hint=hint)


def _too_large(file: Path, width: int, height: int) -> DataError:
    hint = f"at most {MOST_PIXELS:,} pixels are read: make it smaller"
    return DataError(f"claims to be {width}x{height}", file=file, hint=hint)


def _unreadable(file: Path, why: str) -> DataError:
    kind = "PNG" if file.suffix.lower() == ".png" else "JPEG"
    return DataError(f"is not a readable {kind}: {why}", file=file, hint="extract the clip again")
