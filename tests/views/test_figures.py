"""Figures: the axes and data a reader expects, and nothing behind the caller's back."""

from __future__ import annotations

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex

from labkit.errors import ShapeError
from labkit.views import figure_png, psnr_over_time, schedules, style, training_curves

EPOCHS = 8


@pytest.fixture
def history() -> dict[str, np.ndarray]:
    epoch = np.arange(float(EPOCHS))
    psnr = 15 + epoch
    psnr[1::2] = np.nan
    return {
        "epoch": epoch,
        "loss": 0.04 / (1 + epoch),
        "reconstruction": 0.03 / (1 + epoch),
        "kl": 9 - epoch,
        "validation_psnr": psnr,
        "kl_weight": 1e-5 * epoch,
        "teacher_forcing_ratio": 1 - epoch / EPOCHS,
    }


def lines(figure) -> dict[str, object]:
    return {line.get_label(): line for axes in figure.axes for line in axes.lines}


def test_training_curves_draw_every_column(history) -> None:
    drawn = lines(training_curves(history))
    for key in set(history) - {"epoch", "validation_psnr"}:
        line = drawn[style.label_of(key)]
        np.testing.assert_array_equal(line.get_xdata(), history["epoch"])
        np.testing.assert_array_equal(line.get_ydata(), history[key])
        assert to_hex(line.get_color()) == style.SERIES[key].color.lower()
    psnr = drawn["validation PSNR"]
    assert psnr.get_xdata().tolist() == [0, 2, 4, 6]
    assert psnr.get_ydata().tolist() == [15, 17, 19, 21]


def test_training_curves_use_log_axes_where_they_can(history) -> None:
    assert [axes.get_yscale() for axes in training_curves(history).axes[:3]] == [
        "log",
        "log",
        "linear",
    ]
    history["kl"] = np.zeros(EPOCHS)
    assert training_curves(history).axes[1].get_yscale() == "linear"


@pytest.mark.parametrize("spoil", ["kl", "epoch"])
def test_a_missing_column_is_named(history, spoil: str) -> None:
    del history[spoil]
    with pytest.raises(ShapeError, match=rf"lacks {spoil}"):
        training_curves(history)


def test_one_epoch_is_drawn_and_none_refused(history) -> None:
    first = {key: values[:1] for key, values in history.items()}
    figure_png(training_curves(first))
    with pytest.raises(ShapeError, match="one length"):
        training_curves({key: values[:0] for key, values in history.items()})


def test_nothing_validated_yet(history) -> None:
    history["validation_psnr"][:] = np.nan
    figure_png(training_curves(history))


def test_psnr_over_time_draws_means_bands_and_the_protocol() -> None:
    random = np.random.default_rng(0)
    curves = {key: random.normal(20, 2, (40, 3)) for key in ("prediction", "repeat_last")}
    figure = psnr_over_time(curves, 2, "2 context frames, 3 predicted, one sample.")
    (axes,) = figure.axes
    assert len(axes.lines) == len(axes.collections) == 2
    for line, band, (key, values) in zip(axes.lines, axes.collections, curves.items(), strict=True):
        assert line.get_xdata().tolist() == [2, 3, 4]
        np.testing.assert_allclose(line.get_ydata(), values.mean(axis=0))
        assert line.get_label() == f"{style.label_of(key)}: mean {values.mean():.4g}"
        heights = band.get_paths()[0].vertices
        at_two = heights[np.isclose(heights[:, 0], 2), 1]
        half = 1.96 * values[:, 0].std(ddof=1) / np.sqrt(40)
        np.testing.assert_allclose(np.ptp(at_two), 2 * half)
    assert "one sample" in figure.get_supxlabel()


def test_one_clip_has_no_band_and_odd_marks_are_printed_as_they_are() -> None:
    figure = psnr_over_time({"a_run": np.ones((1, 3))}, 2, "costs $5 and $6")
    assert not figure.axes[0].collections
    figure_png(figure)


@pytest.mark.parametrize(
    "curves", [{}, {"a": np.ones((2, 0))}, {"a": np.ones((2, 3)), "b": np.ones((2, 4))}]
)
def test_curves_that_do_not_fit(curves) -> None:
    with pytest.raises(ShapeError, match="curves"):
        psnr_over_time(curves, 2, "")


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_each_schedule_has_a_panel(count: int) -> None:
    panels = {f"schedule {n}": {"kl_weight": np.linspace(0, 1, 10)} for n in range(count)}
    figure = schedules(panels)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == list(panels)
    assert all(axes.lines[0].get_ydata()[-1] == 1 for axes in shown)
    assert len(figure.legends) == 1


def test_no_schedule() -> None:
    with pytest.raises(ShapeError, match="panel"):
        schedules({"empty": {}})


def test_figures_show_themselves_and_change_no_settings(history) -> None:
    before = dict(mpl.rcParams)
    figure = training_curves(history)
    assert figure._repr_png_() == figure_png(figure) == figure_png(training_curves(history))
    assert b"Software" not in figure_png(figure)
    assert dict(mpl.rcParams) == before


def test_pyplot_is_not_needed() -> None:
    code = "import sys, labkit.views; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_colours_of_the_known_series_differ_within_a_picture() -> None:
    together = ("truth", "prediction", "posterior", "repeat_last", "kl_weight")
    assert len({style.SERIES[key].color for key in together}) == len(together)


@pytest.mark.parametrize(("shift", "own"), [(0.0, False), (-2.0, True)])
def test_a_loss_that_is_a_logarithm_has_a_scale_of_its_own(history, shift, own) -> None:
    """Beside an error of 0.01, one of -2 would make a flat line of it."""
    history["loss"] = history["loss"] + shift
    first, *others = training_curves(history).axes
    drawn = [line.get_label() for line in first.lines]
    assert (style.label_of("loss") not in drawn) == own
    assert own == any(style.label_of("loss") in map(_label, axes.lines) for axes in others)


def _label(line) -> str:
    return line.get_label()


def test_long_tick_labels_are_not_cut_off(history) -> None:
    loss = -1.5752 + 0.1 * np.array([0.05, 0.6, 0.7, 1.0, 0.0, 0.1])
    shown = {name: values[:6] for name, values in history.items()}
    shown["reconstruction"] = np.linspace(0.016, 0.019, 6)
    figure = training_curves({**shown, "loss": loss})
    figure.draw_without_rendering()
    drawn = figure.get_tightbbox()
    assert drawn.x0 >= 0
    assert drawn.x1 <= figure.bbox_inches.x1
