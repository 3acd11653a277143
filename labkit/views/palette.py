"""A picture in 256 colours: a third of the bytes, for pages that are kept with the code."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from labkit.views.gif import _colors, _in_colors


def in_256_colours(png: bytes) -> bytes:
    """The same picture with a palette: the lab's own colours and greys as they are, the others
    chosen from the picture, without dithering. The same picture makes the same bytes.

    Args:
        png: a PNG; what is transparent becomes opaque.
    """
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    # Of every other pixel each way: frames are enlarged, and there are enough of the others.
    colours = _colors({"picture": picture[::2, ::2].transpose(2, 0, 1)[None]})
    small = Image.fromarray(_in_colors(picture, colours))
    small.putpalette(colours.tobytes())
    buffer = io.BytesIO()
    small.save(buffer, format="PNG", compress_level=9)
    return buffer.getvalue()
