"""The report: every part is there, the page needs nothing but itself, text stays text."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from labkit.errors import ShapeError
from labkit.views import filmstrip, gif_bytes, png_bytes, write_report
from labkit.views.report import Row, Table

ROWS = {"truth": np.full((3, 3, 8, 8), 90, np.uint8)}
PNG, GIF = png_bytes(filmstrip(ROWS, n_past=1)), gif_bytes(ROWS, n_past=1)
NASTY = "<script>alert('x')</script>"


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def write(folder: Path, **changes) -> str:
    options = {
        "title": "A run",
        "protocol": "2 context frames, 3 predicted, one sample.",
        "psnr": {
            "prediction": np.array([[24.0, 22.0, 20.0], [26.0, 24.0, 22.0]]),
            "repeat_last": np.array([[20.0, 18.0, 16.0], [20.0, 18.0, 16.0]]),
        },
        "ssim": {"prediction": np.array([[0.9, 0.8, 0.7]])},
        "n_past": 2,
        "command": "labkit evaluate runs/a && echo done",
        "figures": {"The losses": PNG, "A drawing": b"<svg xmlns='http://www.w3.org/2000/svg'/>"},
        "gifs": {"clip 1": GIF},
        "strips": {"clip 1": PNG, "clip 2": PNG},
        "config": {"seed": 1, "kl": {"schedule": "cyclical"}},
        "notes": ["One note."],
    }
    file = write_report(folder / "out" / "report.html", **{**options, **changes})
    assert [entry.name for entry in file.parent.iterdir()] == ["report.html"]
    return file.read_text(encoding="utf-8")


def test_every_part_is_there(tmp_path: Path) -> None:
    source = write(tmp_path)
    page = Page(source)
    for part in (
        "A run",
        "23.00 dB",
        "5.00 dB above repeating the last context frame",
        "2 context frames, 3 predicted, one sample.",
        "One note.",
        "repeat last frame",
        "23.00 ± 1.00",
        "25.00",
        "0.800",
        "The losses",
        "clip 2",
        "labkit evaluate runs/a && echo done",
        "kl.schedule",
        "cyclical",
    ):
        assert part in page.text, part
    heads = [text for text in ("t = 2", "t = 3", "t = 4") if text in page.text]
    assert len(heads) == 3
    assert "t = 5" not in page.text
    kinds = [image["src"].split(";")[0] for image in page.all("img")]
    assert kinds == [
        "data:image/png",
        "data:image/svg+xml",
        "data:image/gif",
        "data:image/png",
        "data:image/png",
    ]
    assert base64.b64encode(GIF).decode() in source


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    source = write(tmp_path)
    page = Page(source)
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert str(attributes.get(name) or "data:").startswith("data:")
    assert not page.all("script")
    assert "url(" not in source
    assert "@import" not in source
    assert "prefers-color-scheme: dark" in source


def test_it_can_be_read_aloud(tmp_path: Path) -> None:
    page = Page(write(tmp_path))
    assert page.all("html")[0]["lang"] == "en"
    assert all(len(image.get("alt") or "") > 8 for image in page.all("img"))
    assert all("scope" in head for head in page.all("th"))
    assert len(page.all("h1")) == len(page.all("main")) == 1


def test_text_is_escaped_wherever_it_comes_from(tmp_path: Path) -> None:
    source = write(
        tmp_path,
        title=NASTY,
        protocol=NASTY,
        notes=[NASTY],
        command=NASTY,
        config={NASTY: NASTY},
        figures={NASTY: PNG},
        gifs={NASTY: GIF},
        strips={'" onload="alert(1)': PNG},
        psnr={"prediction": np.ones((1, 1)), NASTY: np.ones((1, 1))},
    )
    page = Page(source)
    assert not page.all("script")
    assert page.text.count(NASTY) >= 8
    assert not any("onload" in attributes for _, attributes in page.tags)


def test_a_report_of_numbers_alone(tmp_path: Path) -> None:
    nothing = {"figures": None, "gifs": None, "strips": None, "config": None, "ssim": None}
    page = Page(write(tmp_path, **nothing))
    assert not page.all("img")
    assert "23.00 dB" in page.text
    assert len(page.all("table")) == 1


def test_a_result_below_the_baseline_says_so(tmp_path: Path) -> None:
    psnr = {"prediction": np.full((2, 3), 17.5), "repeat_last": np.full((2, 3), 18.0)}
    assert "0.50 dB below repeating" in write(tmp_path, psnr=psnr)


def test_ready_tables_stand_instead_of_those_made_here(tmp_path: Path) -> None:
    rows = [Row("prediction", "best of 5", ["23.0 [22.0, 24.0]"]), Row("", NASTY, ["-"])]
    table = Table("By region, dB", ["", "arm"], rows)
    source = write(
        tmp_path, tables=[table], interval=(22.0, 24.0), predicted="the best of 5 samples"
    )
    page = Page(source)
    for part in ("By region, dB", "arm", "best of 5", "23.0 [22.0, 24.0]", NASTY):
        assert part in page.text, part
    assert "mean PSNR of the best of 5 samples (95 % interval over clips: 22.00" in page.text
    assert "standard error" not in page.text
    assert not page.all("script")
    assert source.count('class="swatch"') == 1


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="'odd' is not a PNG"):
        write(tmp_path, figures={"odd": b"hello"})
    wrong = {"prediction": np.ones((2, 3)), "posterior": np.ones((2, 4))}
    with pytest.raises(ShapeError, match="one shape"):
        write(tmp_path, psnr=wrong)
    assert not list(tmp_path.rglob("*.html"))
