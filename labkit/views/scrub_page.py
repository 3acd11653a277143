"""The scrubber as HTML: film strips, and a script that shows one time step of them.

The script cuts each frame from the film strips, so every frame is in the page once. Where scripts
are not allowed, the film strips themselves are shown. The page needs no network and no kernel.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from jaxtyping import Float, UInt8
from markupsafe import Markup

from labkit.errors import ShapeError
from labkit.views import style
from labkit.views.filmstrip import Rows, check_rows, filmstrip, png_bytes, strip_layout
from labkit.views.gif import frame_time

STRIP_STEPS = 15
"""largest number of time steps in one film strip"""
GAIN = 4
"""a difference picture shows GAIN x |truth - clip|, clipped at 255; a power of two"""


@dataclass(frozen=True)
class Strips:
    """Film strips as PNGs, and where each frame is in them."""

    pngs: tuple[bytes, ...]
    """each of up to `STRIP_STEPS` time steps, in order, labelled, not enlarged"""
    sizes: tuple[tuple[int, int], ...]
    """by strip: width and height in pixels"""
    places: tuple[tuple[int, int], ...]
    """by time step: which strip, and the first pixel column of its frames there"""
    tops: tuple[int, ...]
    """by clip: the first pixel row of its frames, the same in every strip"""
    size: tuple[int, int]
    """height and width of a frame"""


@dataclass(frozen=True)
class Show:
    """What a scrubber shows and how, for the page and for the widget."""

    rows: Rows
    """named clips, each uint8 (T, 3, H, W)"""
    n_past: int | None
    """how many of the first frames are context; None: not marked"""
    scale: int
    """every pixel is a square of this side"""
    fps: float
    """frames a second when playing at the usual speed"""
    difference: bool
    """whether difference pictures are shown at first"""

    def __post_init__(self) -> None:
        """Raises ShapeError: see `check_rows` and `frame_time`; a difference without a truth."""
        check_rows(self.rows, self.n_past, self.scale)
        frame_time(self.fps)
        if self.difference and not any(psnr is not None for psnr in self.psnr()):
            raise ShapeError(
                f"there is nothing to compare: the rows are {', '.join(self.rows)}",
                hint="give truth=... and a clip to compare with it",
            )

    @property
    def last(self) -> int:
        """The last time step."""
        return len(next(iter(self.rows.values()))) - 1

    def psnr(self) -> list[Float[np.ndarray, " T"] | None]:
        """By clip: dB against the truth at each time step; None for the truth, or without one."""
        truth = self.rows.get("truth")
        return [
            None if truth is None or name == "truth" else psnr_of_frames(truth, clip)
            for name, clip in self.rows.items()
        ]


def psnr_of_frames(
    truth: UInt8[np.ndarray, "T 3 H W"], clip: UInt8[np.ndarray, "T 3 H W"]
) -> Float[np.ndarray, " T"]:
    """PSNR of each frame, 10 log10(255^2 / MSE) dB; infinite where the two are alike.

    The frames are whole numbers 0..255. The evaluation uses the model's floats; its values differ
    by some hundredths of a dB.
    """
    error = (truth.astype(np.float64) - clip) ** 2
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255**2 / error.mean(axis=(1, 2, 3)))


def make_strips(rows: Rows, n_past: int | None = None) -> Strips:
    """The clips as labelled film strips of up to `STRIP_STEPS` time steps.

    Raises:
        ShapeError: see `check_rows`.
    """
    length, height, width = check_rows(rows, n_past)
    strips: list[bytes] = []
    sizes: list[tuple[int, int]] = []
    places: list[tuple[int, int]] = []
    tops: tuple[int, ...] = ()
    for steps in _chunks(length):
        layout = strip_layout(rows, scale=1, n_past=n_past, steps=steps)
        picture = filmstrip(rows, scale=1, n_past=n_past, steps=steps)
        places += [(len(strips), left) for left in layout.lefts]
        strips.append(png_bytes(picture))
        sizes.append((layout.width, layout.height))
        tops = layout.tops
    return Strips(tuple(strips), tuple(sizes), tuple(places), tops, (height, width))


def scrub_html(show: Show, title: str | None = None) -> str:
    """The scrubber as HTML: a whole page if there is a title, else a part of a page.

    All text is escaped. The page's security policy forbids it to load anything.
    """
    strips = make_strips(show.rows, show.n_past)
    return _template().render(
        title=title,
        css=Markup(stylesheet()),
        js=Markup(_beside("scrubber.js").strip()),
        data=_script_data(_data(show, strips, page=title is not None)),
        strips=[
            {"uri": png_uri(strip), "alt": alt}
            for strip, alt in zip(strips.pngs, _alternatives(show), strict=True)
        ],
    )


def stylesheet() -> str:
    """The scrubber's CSS, the page's and the widget's."""
    return _beside("scrubber.css").strip()


def png_uri(png: bytes) -> str:
    """A PNG as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def step_text(show: Show, step: int) -> str:
    """The line above the frames: "t = 3 of 11 · future"."""
    text = f"t = {step} of {show.last}"
    if show.n_past is None:
        return text
    return f"{text} · {'context' if step < show.n_past else 'future'}"


def psnr_text(value: float) -> str:
    """A frame's PSNR in words."""
    return f"PSNR {value:.1f} dB" if np.isfinite(value) else "identical"


def looks(rows: Rows) -> list[tuple[str, str]]:
    """Label and colour of each clip, as in the film strips and figures."""
    series = [style.series(name, place) for place, name in enumerate(rows)]
    return [(one.label, one.color) for one in series]


def _chunks(length: int) -> list[range]:
    return [range(t, min(t + STRIP_STEPS, length)) for t in range(0, length, STRIP_STEPS)]


def _alternatives(show: Show) -> Iterator[str]:
    names = ", ".join(label for label, _ in looks(show.rows))
    given = f"; the first {show.n_past} are context" if show.n_past else ""
    for steps in _chunks(show.last + 1):
        yield (
            f"Film strip. Rows: {names}. Columns: time steps {steps[0]} to {steps[-1]}"
            f"{given if steps[0] == 0 else ''}."
        )


def _data(show: Show, strips: Strips, page: bool) -> Mapping[str, object]:
    names, colors = zip(*looks(show.rows), strict=True)
    psnr = [
        None if values is None else [_shown(value) for value in values] for values in show.psnr()
    ]
    return {
        "labels": names,
        "colors": colors,
        "psnr": psnr,
        "truth": list(show.rows).index("truth") if "truth" in show.rows else None,
        "last": show.last,
        "n_past": show.n_past,
        "fps": show.fps,
        "scale": show.scale,
        "gain": GAIN,
        "difference": show.difference,
        "places": strips.places,
        "tops": strips.tops,
        "height": strips.size[0],
        "width": strips.size[1],
        "page": page,
    }


def _shown(value: float) -> float | None:
    """A PSNR with the digit that is shown; JSON has no infinity."""
    return round(float(value), 1) if np.isfinite(value) else None


def _script_data(data: Mapping[str, object] | Sequence[object]) -> Markup:
    """JSON for a <script> element: no text in it can close the element."""
    return Markup(json.dumps(data, ensure_ascii=True).replace("<", "\\u003c"))


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(_beside("scrubber.html"))
