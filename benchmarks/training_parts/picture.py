"""The curves of `time_to_quality.py` as a picture."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from training_parts.curves import Curve

from labkit.views import figure_png, use_style
from labkit.views.style import series

TICKS = (1, 5, 10, 30, 60, 180, 600, 1200, 3600)
"""seconds that the axis names"""


def curves_png(curves: Mapping[str, Curve], course: str, protocol: str) -> bytes:
    """PSNR against the time of training, whose axis is logarithmic, as a PNG.

    Args:
        curves: by title.
        course: the title of the course's, whose best is marked.
        protocol: one line on how the predictions were made.
    """
    with use_style():
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        for number, (title, curve) in enumerate(curves.items()):
            look = series(title, number)
            axes.plot(
                curve.seconds, curve.psnr, color=look.color, marker="o", markersize=3, label=title
            )
        best = curves[course].best
        axes.axhline(best, color="0.5", linewidth=0.8, linestyle=":")
        axes.annotate(
            f"the course recipe's best: {best:.1f} dB",
            (0.01, best),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            color="0.35",
            fontsize="small",
        )
        first = min(s for curve in curves.values() for s in curve.seconds)
        last = max(s for curve in curves.values() for s in curve.seconds)
        axes.set_xscale("log")
        axes.set_xlim(0.9 * first, 1.1 * last)
        axes.set_xticks([s for s in TICKS if 0.9 * first <= s <= 1.1 * last])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda s, _: f"{s:g} s" if s < 60 else f"{s / 60:g} min")
        )
        axes.set_xlabel("time of training")
        axes.set_ylabel("PSNR (dB)")
        axes.set_title(protocol, fontsize="small", loc="left")
        axes.legend(loc="best")
        return figure_png(figure)
