"""The live figure in a notebook: one output, renewed in place; nothing outside of one."""

from __future__ import annotations

import base64
from types import SimpleNamespace

import nbclient
import nbformat
import pytest

from labkit.views import LiveFigure
from labkit.views.live import figure_of

ROW = """
from types import SimpleNamespace
def row(epoch):
    return SimpleNamespace(
        epoch=epoch, updates=epoch, loss=1.0 / epoch, reconstruction=0.1 / epoch, kl=2.0,
        validation_psnr=None if epoch % 2 else 20.0 + epoch, kl_weight=0.5,
        teacher_forcing_ratio=1 - epoch / 10)
"""

CELL = """
from labkit.views import LiveFigure
live = LiveFigure(seconds={seconds})
for epoch in range(1, 4):
    live.on_update(None)
    live.on_epoch(SimpleNamespace(rows=[row(each) for each in range(1, epoch + 1)]))
live.close()
"""


def rows(count: int) -> list:
    space: dict = {}
    exec(ROW, space)
    return [space["row"](each) for each in range(1, count + 1)]


@pytest.fixture(scope="module")
def cells() -> list:
    """Two executed cells: one that draws all three epochs, one with time for the first only."""
    notebook = nbformat.v4.new_notebook()
    sources = (ROW, CELL.format(seconds=0.0), CELL.format(seconds=1e9))
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return nbclient.NotebookClient(notebook, timeout=120).execute().cells[1:]


def test_a_cell_ends_with_one_figure_of_all_epochs(cells) -> None:
    expected = figure_of(rows(3))._repr_png_()
    for cell in cells:
        (output,) = cell.outputs
        assert output.output_type == "display_data"
        assert base64.b64decode(output.data["image/png"]) == expected


def test_it_is_not_drawn_more_often_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[int] = []

    class Counting(LiveFigure):
        def _show(self) -> None:
            shown.append(len(self._rows))
            self._drawn, self._stale = 0.0, False

    live = Counting(seconds=10.0)
    clock = iter([100.0, 1.0, 2.0, 11.0, 5.0])
    monkeypatch.setattr("labkit.views.live.time", SimpleNamespace(monotonic=lambda: next(clock)))
    for count in range(1, 6):
        live.on_epoch(SimpleNamespace(rows=rows(count)))
    live.close()
    assert shown == [1, 4, 5]


def test_outside_a_notebook_it_says_nothing(capsys: pytest.CaptureFixture) -> None:
    live = LiveFigure()
    live.on_epoch(SimpleNamespace(rows=rows(1)))
    live.close()
    assert capsys.readouterr() == ("", "")
