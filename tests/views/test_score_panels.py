"""The scores over time: what is drawn is what was given, one legend, the protocol below."""

from __future__ import annotations

import numpy as np
import pytest

from labkit.errors import ShapeError
from labkit.views import figure_png, score_panels, style


def curve(start: float) -> np.ndarray:
    mean = start - np.arange(10.0)
    return np.stack([mean, mean - 0.5, mean + 0.25])


def test_each_panel_draws_its_curves_and_bands() -> None:
    panels = {
        title: {"prediction": curve(25 + n), "repeat_last": curve(20 + n)}
        for n, title in enumerate(("whole frame", "arm", "moved objects"))
    }
    figure = score_panels(panels, 2, "2 -> 10, one sample")
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == list(panels)
    for axes, curves in zip(shown, panels.values(), strict=True):
        for line, band, (key, values) in zip(
            axes.lines, axes.collections, curves.items(), strict=True
        ):
            assert line.get_label() == style.label_of(key)
            assert line.get_xdata().tolist() == list(range(2, 12))
            np.testing.assert_allclose(line.get_ydata(), values[0])
            corners = band.get_paths()[0].vertices
            first = corners[np.isclose(corners[:, 0], 2), 1]
            assert (first.min(), first.max()) == (values[1, 0], values[2, 0])
        assert axes.lines[0].get_zorder() > axes.lines[1].get_zorder()
    assert len(figure.legends) == 1
    assert len(figure.legends[0].get_texts()) == 2
    assert "one sample" in figure.get_supxlabel()
    assert "bootstrap" in figure.get_supxlabel()
    assert figure_png(figure) == figure_png(figure)


def test_without_an_interval_there_is_no_band() -> None:
    bare = curve(25)
    bare[1:] = np.nan
    (axes,) = score_panels({"whole frame": {"prediction": bare}}, 2, "one clip").axes
    assert len(axes.lines) == 1
    assert not axes.collections


@pytest.mark.parametrize(
    "panels",
    [{}, {"a": {}}, {"a": {"b": np.ones((2, 10))}}, {"a": {"b": np.ones((3, 0))}},
     {"a": {"b": np.ones((3, 4))}, "c": {"d": np.ones((3, 5))}}],
)  # fmt: skip
def test_what_does_not_fit_is_named(panels) -> None:
    with pytest.raises(ShapeError, match="curves"):
        score_panels(panels, 2, "")
