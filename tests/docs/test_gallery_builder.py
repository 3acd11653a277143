"""The gallery: made of a run in one call, complete, and the same bytes each time."""

from __future__ import annotations

import dataclasses
import io
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gallery_builder import curves, write_gallery
from gallery_builder.strips import IN_GIF
from labkit.errors import RunError
from labkit.experiments.comparison import compared
from labkit.experiments.evaluated_run import read_evaluated_run
from labkit.experiments.page import FIGURE, NUMBERS, write_page
from labkit.presets import SMOKE
from labkit.reporting.evaluate_run import evaluate_run
from labkit.training import train
from labkit.views import style
from labkit.views.gif import in_256_colours

DOCS = Path(__file__).parents[2] / "docs"
HORIZON = 3
"""few, for the proof's time grows with its square"""
LINKS = re.compile(r"\]\(([^)]+)\)")


@pytest.fixture(scope="module")
def run(simulated, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    data = dataclasses.replace(SMOKE.data, root=simulated.as_posix(), n_future=HORIZON)
    train(dataclasses.replace(SMOKE, data=data), folder, progress=False)
    evaluate_run(folder, clips=3, samples=2, lpips=(), progress=False)
    return folder


@pytest.fixture(scope="module")
def page(run, tmp_path_factory) -> Path:
    docs = tmp_path_factory.mktemp("docs")
    arms = {name: [read_evaluated_run(run, "frame")] for name in ("one", "other")}
    (docs / "question").mkdir()
    write_page(compared(arms), docs / "question", title="Which?", command="labkit experiment")
    return write_gallery(run, docs, clips=IN_GIF, experiment="question")


def check_links(page: Path) -> set[str]:
    links = LINKS.findall(page.read_text(encoding="utf-8"))
    assert links
    for link in links:
        assert (page.parent / link).is_file(), f"{link} leads nowhere"
    return set(links)


def test_every_picture_is_on_the_page_and_can_be_opened(page) -> None:
    links = check_links(page)
    there = {
        file.relative_to(page.parent).as_posix()
        for file in page.parent.rglob("*")
        if file.is_file() and file != page
    }
    assert there - {f"question/{name}" for name in (FIGURE, NUMBERS)} == links
    assert {"question/comparison.html", "gallery/comparison.png"} < links
    assert {"demo.gif", "gallery/scrubber.html", "gallery/graph_prediction.svg"} < links
    for name in links:
        if name.endswith((".png", ".gif")):
            with Image.open(page.parent / name) as file:
                picture = np.asarray(file.convert("RGB"))
            assert min(picture.shape[:2]) > 100
            assert picture.std() > 10, f"{name} is blank"


def test_each_picture_has_its_protocol_and_its_command(page) -> None:
    _, *sections = page.read_text(encoding="utf-8").split("\n## ")
    assert len(sections) == len(re.findall(r"!\[", page.read_text(encoding="utf-8")))
    for section in sections:
        assert re.search(r"^\*[A-Z0-9].{20,}\.\*$", section, re.M), section
        assert re.search(r"^```(sh|python)\n.+\n```$", section, re.M), section
        assert "{" not in section.replace('{"', "")


def test_the_page_names_no_place_of_this_machine(page, run) -> None:
    places = {run.parent.as_posix(), tempfile.gettempdir(), Path.home().as_posix()}
    for file in page.parent.rglob("*"):
        if file.suffix in (".md", ".html", ".svg"):
            text = file.read_text(encoding="utf-8")
            assert not [place for place in places if f"{place}/" in text], file


def test_the_animation_is_as_long_as_the_clips(page) -> None:
    with Image.open(page.parent / "demo.gif") as film:
        assert film.n_frames == SMOKE.data.n_past + HORIZON
        assert film.info["loop"] == 0


def test_again_makes_the_same_bytes(page, run, tmp_path) -> None:
    shutil.copytree(page.parent / "question", tmp_path / "question")
    again = write_gallery(run, tmp_path, clips=IN_GIF, experiment="question")
    for file in page.parent.rglob("*"):
        if file.is_file():
            other = again.parent / file.relative_to(page.parent)
            assert other.read_bytes() == file.read_bytes(), file.name


def test_a_run_without_an_evaluation_is_refused(run, tmp_path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors", "history.csv"):
        (bare / name).write_bytes((run / name).read_bytes())
    with pytest.raises(RunError, match="labkit evaluate"):
        write_gallery(bare, tmp_path / "docs")
    assert not (tmp_path / "docs").exists()


@pytest.mark.parametrize("text", ["[]", "{}", "[" * 10_000, '{"answer": 3}', "\x00"])
def test_a_damaged_comparison_is_one_sentence(text, tmp_path) -> None:
    (tmp_path / NUMBERS).write_text(text, encoding="utf-8")
    (tmp_path / FIGURE).write_bytes(b"")
    with pytest.raises(RunError, match="no readable comparison"):
        curves.side_by_side(tmp_path)


def test_the_stored_gallery_is_whole_and_small() -> None:
    links = check_links(DOCS / "gallery.md")
    assert (DOCS / "demo.gif").stat().st_size < 700_000
    assert sum((DOCS / name).stat().st_size for name in links) < 2_300_000


def test_256_colours_keep_the_labs_own() -> None:
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    colours = [style.PAPER, style.GREEN, style.BLUE]
    for row, colour in enumerate(colours):
        picture[row] = np.frombuffer(bytes.fromhex(colour[1:]), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    small = np.asarray(Image.open(io.BytesIO(in_256_colours(buffer.getvalue()))).convert("RGB"))
    np.testing.assert_array_equal(small[:3], picture[:3])
    assert np.abs(small.astype(int) - picture).mean() < 30
