"""The figure of several trainings, and its page."""

from __future__ import annotations

import numpy as np
import pytest

from labkit.errors import ShapeError
from labkit.views.comparison import comparison_figure, look_of, write_comparison
from labkit.views.figures import figure_png
from labkit.views.report import Row, Table


def history(shift: float) -> dict[str, np.ndarray]:
    names = ("loss", "reconstruction", "kl", "kl_weight", "teacher_forcing_ratio")
    columns = {name: np.linspace(2, 1, 4) + shift for name in names}
    psnr = np.array([np.nan, 20.0, np.nan, 22.0]) + shift
    return {"epoch": np.arange(1.0, 5), "validation_psnr": psnr, **columns}


def drawn():
    bar = np.array([20.0, 19.0, 21.0])
    return comparison_figure(
        {"one": [history(0), history(1)], "other": [history(2)]},
        {"one": (bar, np.array([19.5, 20.5])), "other": (bar * np.nan, np.array([20.0]))},
        {"one − other": (np.array([0.5, 0.2, 0.8]), True)},
        "protocol frame",
    )


def test_every_run_has_a_line_in_every_panel() -> None:
    figure = drawn()
    panels = figure.axes
    assert len(panels) == 8
    for axes in panels[:6]:
        assert len(axes.lines) == 3
        assert axes.lines[0].get_color() == axes.lines[1].get_color() == look_of(0)[0]
        assert axes.lines[2].get_color() == look_of(1)[0]
    psnr = panels[3].lines[0]
    assert psnr.get_xdata().tolist() == [2, 4]
    assert psnr.get_ydata().tolist() == [20, 22]
    zero, span, dot = panels[7].lines
    assert list(zero.get_xdata()) == [0, 0]
    assert list(span.get_xdata()) == [0.2, 0.8]
    assert list(dot.get_xdata()) == [0.5]
    assert figure_png(figure) == figure_png(drawn())


def test_no_two_of_many_runs_look_alike() -> None:
    assert len({look_of(place) for place in range(28)}) == 28


def test_nothing_to_draw_is_refused() -> None:
    for empty in ({}, {"one": []}):
        with pytest.raises(ShapeError, match="each group"):
            comparison_figure(empty, {}, {}, "protocol")


def test_the_page_escapes_and_colours(tmp_path) -> None:
    file = write_comparison(
        tmp_path / "new" / "page.html",
        title="a < b",
        answer=["one is <better>"],
        protocol="Protocol frame.",
        tables=[Table("means", ["", "PSNR"], [Row("one", "one", ["20"]), Row("", "x", ["1"])])],
        arms=["one"],
        picture=figure_png(drawn()),
        caption="curves",
        command="labkit compare a b",
    )
    page = file.read_text(encoding="utf-8")
    assert "a &lt; b" in page
    assert "one is &lt;better&gt;" in page
    assert page.count('class="swatch"') == 1
    assert look_of(0)[0] in page
    assert "Every setting" not in page
    with pytest.raises(ShapeError):
        write_comparison(
            tmp_path / "bad.html",
            title="t",
            answer=[],
            protocol="p",
            tables=[],
            arms=[],
            picture=b"no picture",
            caption="c",
            command="x",
        )
    assert not (tmp_path / "bad.html").exists()


@pytest.mark.parametrize("name", ["a $x$ b$", "run \udcff"])
def test_a_runs_name_is_no_mathematics(name: str) -> None:
    bar = np.array([1.0, 0.5, 1.5])
    means, differences = {name: (bar, np.array([1.0]))}, {f"{name} - b": (bar, True)}
    figure = comparison_figure({name: [history(0)]}, means, differences, name)
    assert figure_png(figure)
    (legend,) = figure.subfigs[0].legends or figure.legends
    shown = legend.get_texts()[0].get_text()
    assert shown == name.replace("$", r"\$").replace("\udcff", "?")
