"""PNG files -> arrays."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from labkit.errors import DataError

_BROKEN = (
    OSError,
    SyntaxError,  # pillow's word for a broken header
    ValueError,
    EOFError,
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
            raise DataError(what, file=file, mend="all frames of a clip must have one size")
        frames[number] = picture
    return np.empty((0, 3, 0, 0), np.uint8) if frames is None else frames


def read_picture(file: Path) -> UInt8[np.ndarray, "3 H W"]:
    """Reads an 8-bit PNG of any kind (RGB, grey, palette, with alpha) as RGB.

    Raises:
        DataError: not a PNG, damaged, or of more than 8 bits.
    """
    try:
        with Image.open(file, formats=["PNG"]) as image:
            if image.mode.startswith("I"):
                raise DataError("has 16 bits a channel", file=file, mend="save it with 8 bits")
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except PermissionError:
        raise DataError("may not be read", file=file, mend="change its permissions") from None
    except _BROKEN:
        mend = "extract the clip again"
        raise DataError("is not a readable PNG", file=file, mend=mend) from None
