"""Numbers and pictures -> `report.html`: one page that needs no other file and no network."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
"""By method ("prediction", "posterior", "repeat_last"): (clips, horizon), one value per frame."""


@dataclass(frozen=True)
class Row:
    """One row of a table, its cells already text."""

    key: str
    """a series' name; its colour is shown before the label. "" for none"""
    label: str
    cells: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table of text."""

    caption: str
    head: Sequence[str]
    """of the labels' column, then of each column of cells"""
    rows: Sequence[Row]


def write_report(
    file: Path | str,
    *,
    title: str,
    protocol: str,
    psnr: Scores,
    n_past: int,
    command: str,
    ssim: Scores | None = None,
    tables: Sequence[Table] | None = None,
    interval: tuple[float, float] | None = None,
    predicted: str = "the prediction",
    figures: Mapping[str, bytes] | None = None,
    gifs: Mapping[str, bytes] | None = None,
    strips: Mapping[str, bytes] | None = None,
    config: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Writes one self-contained page and its folder. The file is written whole or not at all.

    The headline is the mean PSNR of "prediction" and its difference to "repeat_last". All pictures
    are inside the page. All text is escaped.

    Args:
        file: where to write it.
        title: heading of the page.
        protocol: one sentence: context, horizon, samples, best-of-N or not, data set.
        psnr: dB, by method; a table shows the mean and each time step of every method.
        n_past: number of context frames, so that the first value is of time step n_past.
        command: the command that writes this page.
        ssim: as `psnr`, if it was measured.
        tables: tables to show instead of those of `psnr` and `ssim`.
        interval: 95 % interval of the headline, dB.
        predicted: the name of the predictions in the headline.
        figures: caption -> PNG or SVG.
        gifs: clip's name -> GIF.
        strips: clip's name -> PNG, shown below the GIF of the same name.
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
        headline=_headline(psnr, interval, predicted),
        tables=list(map(_shown, tables or _tables(psnr, ssim or {}, n_past))),
        figures=[
            {"caption": caption, "uri": data_uri(data, caption)}
            for caption, data in (figures or {}).items()
        ],
        clips=[
            {
                "name": name,
                "gif": data_uri(gifs[name], name) if name in gifs else "",
                "strip": data_uri(strips[name], name) if name in strips else "",
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


def _headline(
    psnr: Scores, interval: tuple[float, float] | None, predicted: str
) -> dict[str, str] | None:
    if "prediction" not in psnr:
        return None
    reached = float(np.mean(psnr["prediction"]))
    meaning = f"mean PSNR of {predicted}"
    if interval is not None and np.isfinite(interval).all():
        meaning += f" (95 % interval over clips: {interval[0]:.2f} to {interval[1]:.2f} dB)"
    if "repeat_last" in psnr:
        ahead = reached - float(np.mean(psnr["repeat_last"]))
        meaning += f", {abs(ahead):.2f} dB {'above' if ahead >= 0 else 'below'} "
        meaning += "repeating the last context frame"
    return {"value": f"{reached:.2f} dB", "meaning": meaning}


def _tables(psnr: Scores, ssim: Scores, n_past: int) -> list[Table]:
    kinds = ((psnr, "PSNR in dB", 2), (ssim, "SSIM", 3))
    return [_table(scores, n_past, name, digits) for scores, name, digits in kinds if scores]


def _table(scores: Scores, n_past: int, quantity: str, digits: int) -> Table:
    """A table of scores as text: mean +- standard error over clips, then each time step."""
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
        steps = [f"{value:.{digits}f}" for value in values.mean(axis=0)]
        rows.append(Row(key, style.series(key, place).label, [mean, *steps]))
    clips = "1 clip" if shape[0] == 1 else f"{shape[0]} clips; mean ± its standard error over clips"
    return Table(
        f"{quantity}, {clips}, and the mean at each predicted time step",
        ["method", "mean", *(f"t = {t}" for t in range(n_past, n_past + shape[1]))],
        rows,
    )


def _shown(table: Table) -> dict[str, Any]:
    """A table with each row's colour, for the template."""
    rows = [
        {
            "label": row.label,
            "color": style.series(row.key, place).color if row.key else "",
            "cells": row.cells,
            "strong": row.key == "prediction",
        }
        for place, row in enumerate(table.rows)
    ]
    return {"caption": table.caption, "head": table.head, "rows": rows}


def data_uri(data: bytes, name: str) -> str:
    """A PNG, GIF, JPEG or SVG as a data URI; `name` is for the error's message.

    Raises:
        ShapeError: bytes that are not a picture.
    """
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
