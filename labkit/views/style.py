"""The style of every picture: colours with a fixed meaning, one font, the names of the series.

The colours are those of Okabe and Ito (2008), which people with any common form of colour
blindness can distinguish. A series has the same colour in every picture: in curves, film strips
and GIFs. Lines also differ by their dashes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from PIL import ImageFont

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"

INK = "#1f1f1f"
"""text"""
FAINT = "#d4d4d4"
"""grid lines, and the rest of a time line"""
CONTEXT = "#767676"
"""marks of context frames"""
PAPER = "#ffffff"
"""the background: white, also in a dark theme"""


@dataclass(frozen=True)
class Series:
    """Label and look of a named series."""

    label: str
    """the name a reader sees"""
    color: str
    """its colour, "#rrggbb" """
    dashes: str = "-"
    """matplotlib's line style"""


SERIES: dict[str, Series] = {
    "truth": Series("ground truth", BLACK),
    "prediction": Series("prediction", BLUE),
    "posterior": Series(
        "posterior (sees\N{NO-BREAK SPACE}the\N{NO-BREAK SPACE}target)", GREEN, "--"
    ),
    "repeat_last": Series("repeat last frame", ORANGE, "-."),
    "prior_mean": Series("mean of the prior", PURPLE, ":"),
    "one_sample": Series("one sample", SKY, "--"),
    "loss": Series("loss, with β KL", CONTEXT, ":"),
    "reconstruction": Series("reconstruction (MSE)", BLACK),
    "kl": Series("KL divergence", PURPLE),
    "validation_psnr": Series("validation PSNR", BLUE),
    "kl_weight": Series("KL weight β", VERMILION),
    "teacher_forcing_ratio": Series("teacher-forcing ratio", SKY, "--"),
    "learning_rate": Series("learning rate", GREEN),
    "linear": Series("linear ramp", VERMILION),
    "sigmoid": Series("sigmoid ramp", PURPLE, "--"),
    "cosine": Series("cosine ramp", BLACK, ":"),
}
"""The series the lab knows, by the key used in its files and dictionaries."""

_SPARE = ((PURPLE, "-"), (SKY, "--"), (VERMILION, "-."), (GREEN, ":"), (ORANGE, "-"), (BLUE, ":"))

RC: dict[str, object] = {
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8a8a8a",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.0,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "text.color": INK,
    "xtick.color": "#4a4a4a",
    "ytick.color": "#4a4a4a",
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "figure.dpi": 100.0,
    "text.usetex": False,
}
"""The style of the figures, as matplotlib's rcParams."""


def series(key: str, position: int = 0) -> Series:
    """The style of the series `key`. An unknown series gets a spare colour.

    Args:
        key: its name in a history, an evaluation or a dictionary of clips.
        position: its place among the series shown; it selects the spare colour.
    """
    if key in SERIES:
        return SERIES[key]
    color, dashes = _SPARE[position % len(_SPARE)]
    return Series(label_of(key), color, dashes)


def label_of(key: str) -> str:
    """The name a reader sees for `key`: "repeat_last" is "repeat last frame"."""
    return SERIES[key].label if key in SERIES else key.replace("_", " ")


def plain_text(name: str) -> str:
    """A user's text, such as a run's name, for matplotlib: `$` begins no mathematics, and bytes
    that are not UTF-8 become "?"."""
    return name.encode("utf-8", "replace").decode("utf-8").replace("$", r"\$")


@contextmanager
def use_style() -> Iterator[None]:
    """Inside `with use_style():`, new figures have the lab's style."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


# ------------------------------------------------------------------- lettering for pictures


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, the figures' font, at `size` pixels: it comes with matplotlib."""
    file = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    # Every build of pillow has the basic layout, so the pictures are the same everywhere.
    return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)


def text_width(text: str, size: int) -> int:
    """Pixels that one line of text takes."""
    return round(font(size).getlength(text) + 0.5)


def line_height(size: int) -> int:
    """Pixels from one line of text to the next."""
    ascent, descent = font(size).getmetrics()
    return ascent + descent


def wrap(text: str, size: int, width: int) -> list[str]:
    """Lines of text that fit `width` pixels, broken at spaces or inside words that are too long."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        for piece in _pieces(word, size, width):
            joined = f"{line} {piece}".strip()
            if line and text_width(joined, size) > width:
                lines.append(line)
                joined = piece
            line = joined
    return [*lines, line] if line or not lines else lines


def _pieces(word: str, size: int, width: int) -> Iterator[str]:
    """`word` in parts that each fit `width`, with at least one letter in each."""
    while len(word) > 1 and text_width(word, size) > width:
        cut = 1
        while text_width(word[: cut + 1], size) <= width:
            cut += 1
        yield word[:cut]
        word = word[cut:]
    yield word
