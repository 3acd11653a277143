"""The gallery of schedules: a panel each, every line drawn, told apart without colour."""

from __future__ import annotations

import numpy as np
import pytest

from gallery_builder.schedule_gallery import every_schedule, schedule_figure
from labkit.errors import ShapeError
from labkit.views import style

TIME = np.linspace(0, 10, 20, endpoint=False)


def rows() -> dict:
    ramps = {name: TIME / 10 * place for place, name in enumerate(("linear", "sigmoid", "cosine"))}
    return {
        "kl_weight": {"constant": {"kl_weight": np.ones(20)}, "ramps": ramps},
        "learning_rate": {"step": {"learning_rate": np.full(20, 0.002)}},
    }


def shown(figure) -> list:
    return [axes for axes in figure.axes if axes.get_visible()]


def test_every_line_is_drawn_in_a_panel_with_its_title() -> None:
    figure = schedule_figure(rows(), TIME)
    titles = [axes.get_title(loc="left") for axes in shown(figure)]
    assert titles == ["constant", "ramps", "step"]
    for axes, panel in zip(
        shown(figure), [p for row in rows().values() for p in row.values()], strict=True
    ):
        assert len(axes.lines) == len(panel)
        for line, values in zip(axes.lines, panel.values(), strict=True):
            assert np.array_equal(line.get_ydata(), values)
            assert np.array_equal(line.get_xdata(), TIME)
            low, high = axes.get_ylim()
            assert low < values.min()
            assert values.max() < high


def test_lines_of_one_panel_differ_in_dashes_and_colour_and_are_named_once() -> None:
    figure = schedule_figure(rows(), TIME)
    ramps = shown(figure)[1].lines
    assert len({line.get_linestyle() for line in ramps}) == 3
    assert len({line.get_color() for line in ramps}) == 3
    (legend,) = figure.legends
    named = [text.get_text() for text in legend.get_texts()]
    assert named == [style.label_of(name) for name in ("linear", "sigmoid", "cosine")]


def test_the_lowest_panel_of_each_column_has_the_time_axis() -> None:
    constant, ramps, step = shown(schedule_figure(rows(), TIME))
    assert [axes.get_xlabel() for axes in (constant, ramps, step)] == ["", "epoch", "epoch"]


@pytest.mark.parametrize(
    "wrong",
    [{}, {"kl_weight": {}}, {"kl_weight": {"a": {}}}, {"kl_weight": {"a": {"a": np.ones(3)}}}],
)
def test_a_gallery_that_does_not_fit(wrong) -> None:
    with pytest.raises(ShapeError):
        schedule_figure(wrong, TIME)


def test_the_gallery_has_every_kind_there_is() -> None:
    rows, epochs = every_schedule(epochs=30, points=60)
    assert list(rows) == ["kl_weight", "teacher_forcing_ratio", "learning_rate"]
    assert [len(row) for row in rows.values()] == [4, 4, 3]
    assert (epochs[0], epochs[-1], len(epochs)) == (0.0, 29.5, 60)
    assert set(rows["kl_weight"]["monotonic"]) == {"linear", "sigmoid", "cosine"}
    for row in rows.values():
        for panel in row.values():
            assert all(values.shape == (60,) for values in panel.values())
    cyclical = rows["kl_weight"]["cyclical, M = 3, R = 1/2"]["linear"]
    assert cyclical[[0, 5, 10, 19, 20, 30]] == pytest.approx([0, 0.5, 1, 1, 0, 1])
