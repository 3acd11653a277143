"""The scrubber as ipywidgets, for a notebook that uses the slider's value.

The slider, the play button and the pictures are linked in the browser: they work without the
kernel. The film strips are sent once. Each time step is a few lines of HTML that show a part of
the strips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import ipywidgets as widgets
import jinja2

from labkit.views.gif import frame_time
from labkit.views.scrub_page import (
    GAIN,
    Show,
    Strips,
    looks,
    make_strips,
    png_uri,
    psnr_text,
    step_text,
    stylesheet,
)

_STEP = """
<div class="labkit-scrubber {{ key }}">
<p class="where {{ kind }}">{{ where }}</p>
{% if mark is not none %}
<div class="ruler" aria-hidden="true"><span class="given" style="width: {{ mark }}%"></span>
{% if 0 < mark < 100 %}<span class="mark"></span>{% endif %}<span class="made"></span>
<span class="now" style="left: {{ now }}%"></span></div>
{% endif %}
<div class="screens" style="{{ columns }}">
{% for clip in clips %}
<figure>
<figcaption><span class="name" style="border-color: {{ clip.color }}">{{ clip.label }}</span>
<span class="psnr">{{ clip.psnr }}</span></figcaption>
<div class="tile {{ clip.strip }}" role="img" aria-label="{{ clip.label }}, {{ where }}"
 style="background-position: {{ clip.at }}"></div>
{% if clip.truth_at %}
<div class="difference"><span>|truth − this| × {{ gain }}</span>
<div class="subtracted" role="img" aria-label="difference of {{ clip.label }}, {{ where }}">
<div class="tile {{ clip.strip }}" style="background-position: {{ clip.truth_at }}"></div>
<div class="tile {{ clip.strip }}" style="background-position: {{ clip.at }}"></div></div></div>
{% endif %}
</figure>
{% endfor %}
</div>
</div>
"""


class LinkedScrubber(widgets.VBox):
    """Named clips with a slider, a play button and a speed; made by `Scrubber.widget`."""

    def __init__(self, show: Show) -> None:
        strips = make_strips(show.rows, show.n_past)
        key = f"film-{hashlib.sha256(b''.join(strips.pngs)).hexdigest()[:12]}-{show.scale}"
        self.names = tuple(show.rows)
        self.frames = show.last + 1
        self.play = widgets.Play(
            min=0,
            max=show.last,
            interval=frame_time(show.fps),
            show_repeat=True,
            tooltip="play",
            layout=widgets.Layout(width="auto"),
        )
        self.slider = widgets.IntSlider(
            min=0,
            max=show.last,
            description="time step",
            tooltip="time step (arrow keys move it)",
            layout=widgets.Layout(width="26em", max_width="100%"),
        )
        self.speed = widgets.IntSlider(
            value=frame_time(show.fps),
            min=20,
            max=max(1000, frame_time(show.fps)),
            step=20,
            description="ms a frame",
            tooltip="milliseconds that a frame is shown while playing",
            layout=widgets.Layout(width="20em", max_width="100%"),
        )
        # All time steps share one layout and one style: each further widget costs a message.
        layout, look = widgets.Layout(), widgets.HTML().style
        self.stack = widgets.Stack(
            [widgets.HTML(text, layout=layout, style=look) for text in _steps(show, strips, key)],
            selected_index=0,
        )
        self.links = (
            widgets.jslink((self.play, "value"), (self.slider, "value")),
            widgets.jslink((self.slider, "value"), (self.stack, "selected_index")),
            widgets.jslink((self.speed, "value"), (self.play, "interval")),
        )
        sheet = widgets.HTML(f"<style>{stylesheet()}\n{_sheet(strips, key, show.scale)}</style>")
        controls = widgets.HBox(
            [self.play, self.slider, self.speed], layout=widgets.Layout(flex_flow="row wrap")
        )
        super().__init__([sheet, controls, self.stack])

    def __repr__(self) -> str:
        return f"LinkedScrubber(rows={list(self.names)}, frames={self.frames})"


def _steps(show: Show, strips: Strips, key: str) -> Iterator[str]:
    """The HTML of each time step."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_STEP)
    truth = list(show.rows).index("truth") if "truth" in show.rows else None
    series = list(zip(looks(show.rows), show.psnr(), strips.tops, strict=True))
    wide = max(strips.size[1] * show.scale, 112)
    mark = None
    if show.n_past is not None:
        # Halfway between the last context frame and the first predicted one.
        mark = 100 * min(max((show.n_past - 0.5) / max(show.last, 1), 0), 1)
    for step, (strip, left) in enumerate(strips.places):
        clips = [
            {
                "label": label,
                "color": "var(--ink)" if color == "#000000" else color,
                "psnr": "" if psnr is None else psnr_text(psnr[step]),
                "strip": f"strip-{strip}",
                "at": _at(left, top, show.scale),
                "truth_at": _at(left, strips.tops[truth], show.scale)
                if show.difference and truth is not None and psnr is not None
                else "",
            }
            for (label, color), psnr, top in series
        ]
        yield template.render(
            key=key,
            where=step_text(show, step),
            kind="" if show.n_past is None else "given" if step < show.n_past else "made",
            mark=mark,
            now=100 * step / max(show.last, 1),
            columns=f"grid-template-columns: repeat({min(len(clips), 4)}, {wide}px)",
            clips=clips,
            gain=GAIN,
        ).strip()


def _at(left: int, top: int, scale: int) -> str:
    return f"-{left * scale}px -{top * scale}px"


def _sheet(strips: Strips, key: str, scale: int) -> str:
    """The CSS rules with the film strips, for the tiles of this scrubber alone."""
    high, wide = strips.size
    rules = [f".{key} .tile {{ width: {wide * scale}px; height: {high * scale}px; }}"]
    rules += [
        f".{key} .strip-{number} {{ background-image: url({png_uri(png)}); "
        f"background-size: {width * scale}px {height * scale}px; }}"
        for number, (png, (width, height)) in enumerate(zip(strips.pngs, strips.sizes, strict=True))
    ]
    # The clip is subtracted from the truth below it, and the difference is brightened.
    rules.append(f".{key} .subtracted {{ filter: brightness({GAIN}); }}")
    return "\n".join(rules)
