"""Numbers and pictures -> `report.html`: one page that needs nothing but itself."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from jaxtyping import Float

from labkit.errors import ShapeError
from labkit.files import write_whole
from labkit.views import style

_KINDS = (
    (b"\x89PNG", "image/png"),
    (b"GIF8", "image/gif"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"<svg", "image/svg+xml"),
    (b"<?xml", "image/svg+xml"),
)

Scores = Mapping[str, Float[np.ndarray, "_ _"]]
"""By method ("prediction", "posterior", "repeat_last"): (clips, horizon), one value a frame."""


def write_report(
    file: Path | str,
    *,
    title: str,
    protocol: str,
    psnr: Scores,
    n_past: int,
    command: str,
    ssim: Scores | None = None,
    figures: Mapping[str, bytes] | None = None,
    gifs: Mapping[str, bytes] | None = None,
    strips: Mapping[str, bytes] | None = None,
    config: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Writes one self-contained page, whole or not at all; makes its folder.

    The headline is the mean PSNR of "prediction", with its distance to "repeat_last". All
    pictures are inside the page; it asks the network for nothing. All text is escaped.

    Args:
        file: where to write it.
        title: heading of the page.
        protocol: one sentence: context, horizon, samples, best-of-N or not, data set.
        psnr: dB, by method; each method becomes a row of a table, mean and per time step.
        n_past: number of context frames, so that the first value is of time step n_past.
        command: what makes this page again.
        ssim: as `psnr`, if it was measured.
        figures: caption -> PNG or SVG.
        gifs: clip's name -> GIF.
        strips: clip's name -> PNG; stands under the GIF of the same name.
        config: settings, nested as in `Config.to_dict()`.
        notes: more sentences for the top of the page.

    Returns:
        the file.

    Raises:
        ShapeError: scores that are not (clips, horizon), or bytes that are not a picture.
    """
    gifs, strips = gifs or {}, strips or {}
    page = _template().render(
        title=title,
        protocol=protocol,
        notes=notes,
        headline=_headline(psnr),
        tables=[
            _table(scores, n_past, quantity, digits)
            for scores, quantity, digits in ((psnr, "PSNR in dB", 2), (ssim or {}, "SSIM", 3))
            if scores
        ],
        figures=[
            {"caption": caption, "uri": _data_uri(data, caption)}
            for caption, data in (figures or {}).items()
        ],
        clips=[
            {
                "name": name,
                "gif": _data_uri(gifs[name], name) if name in gifs else "",
                "strip": _data_uri(strips[name], name) if name in strips else "",
            }
            for name in dict.fromkeys([*gifs, *strips])
        ],
        command=command,
        config=list(_flat(config or {})),
    )
    file = Path(file)
    write_whole(file, page)
    return file


def _template() -> jinja2.Template:
    source = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(source)


def _headline(psnr: Scores) -> dict[str, str] | None:
    if "prediction" not in psnr:
        return None
    reached = float(np.mean(psnr["prediction"]))
    meaning = "mean PSNR of the prediction"
    if "repeat_last" in psnr:
        ahead = reached - float(np.mean(psnr["repeat_last"]))
        meaning += f", {abs(ahead):.2f} dB {'above' if ahead >= 0 else 'below'} "
        meaning += "repeating the last context frame"
    return {"value": f"{reached:.2f} dB", "meaning": meaning}


def _table(scores: Scores, n_past: int, quantity: str, digits: int) -> dict[str, Any]:
    """A table's cells as text: mean +- its standard error over clips, then each time step."""
    shape = np.shape(next(iter(scores.values())))
    if len(shape) != 2 or 0 in shape or any(np.shape(s) != shape for s in scores.values()):
        shapes = {key: np.shape(values) for key, values in scores.items()}
        raise ShapeError(f"scores must be (clips, horizon) of one shape, not {shapes}")
    rows = []
    for place, (key, values) in enumerate(scores.items()):
        per_clip = values.mean(axis=1)
        mean = f"{per_clip.mean():.{digits}f}"
        if shape[0] > 1:
            mean += f" ± {per_clip.std(ddof=1) / np.sqrt(shape[0]):.{digits}f}"
        look = style.series(key, place)
        steps = [f"{value:.{digits}f}" for value in values.mean(axis=0)]
        rows.append({"label": look.label, "color": look.color, "mean": mean, "steps": steps})
    clips = "1 clip" if shape[0] == 1 else f"{shape[0]} clips; mean ± its standard error over clips"
    return {
        "quantity": quantity,
        "caption": f"{quantity}, {clips}, and the mean at each predicted time step",
        "steps": range(n_past, n_past + shape[1]),
        "rows": rows,
    }


def _data_uri(data: bytes, name: str) -> str:
    for start, kind in _KINDS:
        if data.lstrip().startswith(start):
            return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
    raise ShapeError(f"the picture {name!r} is not a PNG, GIF, JPEG or SVG")


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as (dotted name, value) pairs, in their order."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
