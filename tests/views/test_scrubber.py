"""The scrubber without a browser: what its page and its widgets are made of."""

from __future__ import annotations

import base64
import html
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from labkit.errors import ShapeError
from labkit.views import png_bytes, scrub
from labkit.views.scrub_page import make_strips, psnr_of_frames


def clips(length: int = 4, *names: str) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {
        name: random.integers(0, 256, (length, 3, 8, 8), np.uint8)
        for name in names or ("truth", "prediction")
    }


def pixels(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def data_of(page: str) -> dict:
    """What the page's script is told."""
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])


def strips_of(page: str) -> list[np.ndarray]:
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)"', page)
    return [pixels(base64.b64decode(png)) for png in found]


@pytest.mark.parametrize("length", [1, 4, 15, 16, 40])
def test_every_frame_lies_in_the_strips_where_the_script_looks(length: int) -> None:
    rows = clips(length)
    page = scrub(rows, n_past=1).to_html()
    data, strips = data_of(page), strips_of(page)
    assert (data["last"], data["height"], data["width"]) == (length - 1, 8, 8)
    assert len(data["places"]) == length
    for step, (strip, left) in enumerate(data["places"]):
        for clip, top in zip(rows.values(), data["tops"], strict=True):
            tile = strips[strip][top : top + 8, left : left + 8]
            np.testing.assert_array_equal(tile, clip[step].transpose(1, 2, 0))


def test_psnr_is_that_of_the_frames_shown() -> None:
    truth = np.full((3, 3, 4, 4), 100, np.uint8)
    off = truth + np.array([0, 5, 100], np.uint8)[:, None, None, None]
    expected = [np.inf, 10 * np.log10(255**2 / 25), 10 * np.log10(255**2 / 100**2)]
    np.testing.assert_allclose(psnr_of_frames(truth, off), expected)
    np.testing.assert_allclose(psnr_of_frames(off, truth), expected)  # bytes must not wrap
    view = scrub(truth=truth, prediction=off)
    assert data_of(view.to_html())["psnr"] == [None, [None, 34.2, 8.1]]
    said = [re.findall(r'class="psnr">(.*?)<', step.value) for step in view.widget().stack.children]
    assert said == [["", "identical"], ["", "PSNR 34.2 dB"], ["", "PSNR 8.1 dB"]]


def test_without_a_truth_there_is_nothing_to_compare_with() -> None:
    data = data_of(scrub(clips(4, "prediction", "posterior")).to_html())
    assert data["psnr"] == [None, None]
    assert data["truth"] is None
    with pytest.raises(ShapeError, match=r"nothing to compare.*truth="):
        scrub(clips(4, "prediction", "posterior"), difference=True)


def test_named_clips_stand_in_their_order_and_samples_after_them() -> None:
    a, b, c, d = clips(4, "a", "b", "c", "d").values()
    view = scrub({"repeat_last": d}, samples=np.stack([a, b]), posterior=c, truth=b, prediction=a)
    labels = data_of(view.to_html())["labels"]
    plain = [label.replace("\N{NO-BREAK SPACE}", " ") for label in labels]
    assert plain == [
        "ground truth",
        "prediction",
        "posterior (sees the target)",
        "repeat last frame",
        "sample 1",
        "sample 2",
    ]
    assert data_of(scrub(truth=a, samples=[b]).to_html())["labels"] == ["ground truth", "sample 1"]


def test_the_output_is_the_same_at_every_run() -> None:
    first, second = (scrub(clips(), n_past=2)._repr_mimebundle_() for _ in range(2))
    assert first == second
    assert first["text/plain"] == "Scrubber(rows=['truth', 'prediction'], frames=4)"
    assert set(first) == {"text/plain", "text/html", "image/png"}
    (strip,) = strips_of(first["text/html"])
    np.testing.assert_array_equal(pixels(base64.b64decode(first["image/png"])), strip)
    assert repr(scrub(clips()).widget()) == (
        "LinkedScrubber(rows=['truth', 'prediction'], frames=4)"
    )


def test_a_page_asks_for_nothing_from_anywhere() -> None:
    page = scrub(clips(), n_past=2).to_html()
    assert "default-src 'none'" in page
    addresses = re.findall(r"""(?:src|href)=["']([^"']+)|url\(([^)]+)|https?://""", page)
    assert addresses
    assert all("".join(pair).startswith("data:") for pair in addresses)


def test_every_frame_is_in_the_page_once() -> None:
    random = np.random.default_rng(1)
    rows = {name: random.integers(0, 256, (12, 3, 64, 64), np.uint8) for name in ("truth", "a")}
    page = scrub(rows, n_past=2, difference=True).to_html()
    frames = np.concatenate(list(rows.values())).transpose(0, 2, 3, 1)
    in_base64 = sum(len(png_bytes(frame)) for frame in frames) * 4 / 3
    assert in_base64 < len(page) < 1.05 * in_base64 + 25e3


def test_odd_names_are_escaped() -> None:
    odd = "a<b>&\"'</script><script>alert(1)</script>"
    page = scrub({"truth": clips()["truth"], odd: clips()["truth"]}).to_html(title=odd)
    assert "<script>alert" not in page
    assert data_of(page)["labels"][1] == odd
    assert html.escape(odd, quote=False).replace("'", "&#39;").replace('"', "&#34;") in page
    step = scrub({odd: clips()["truth"]}).widget().stack.children[0].value
    assert "<script>" not in step


def test_a_page_is_written_whole(tmp_path) -> None:
    view = scrub(clips())
    file = view.save_html(tmp_path / "pages" / "a #1 %.html", title="a clip")
    assert file.read_text(encoding="utf-8") == view.to_html("a clip")
    assert [entry.name for entry in file.parent.iterdir()] == ["a #1 %.html"]


def test_a_part_of_a_page_is_no_page() -> None:
    part = scrub(clips()).to_html_part()
    assert "<html" not in part
    assert data_of(part)["page"] is False
    assert data_of(scrub(clips()).to_html())["page"] is True


# ---------------------------------------------------------------------------------- the widget


def test_links_are_made_in_the_browser() -> None:
    view = scrub(clips(), fps=10).widget()
    ends = [(link.source, link.target) for link in view.links]
    assert ends == [
        ((view.play, "value"), (view.slider, "value")),
        ((view.slider, "value"), (view.stack, "selected_index")),
        ((view.speed, "value"), (view.play, "interval")),
    ]
    assert {link._model_name for link in view.links} == {"LinkModel"}
    assert {link._model_module for link in view.links} == {"@jupyter-widgets/controls"}
    # A link on the kernel's side would have moved the picture here.
    view.slider.value = 2
    assert view.stack.selected_index == 0
    assert (view.slider.min, view.slider.max, view.play.max) == (0, 3, 3)
    assert view.play.interval == view.speed.value == 100


def test_each_of_the_widgets_time_steps_shows_its_part_of_the_strips() -> None:
    rows, scale = clips(20), 3
    made, steps = make_strips(rows, 2), scrub(rows, n_past=2, scale=scale).widget().stack.children
    assert len(steps) == 20
    for step, child in enumerate(steps):
        kind = "context" if step < 2 else "future"
        assert f">t = {step} of 19 · {kind}<" in child.value
        strip, left = made.places[step]
        tiles = re.findall(
            r'tile strip-(\d+)".*?background-position: -(\d+)px -(\d+)px', child.value, re.DOTALL
        )
        assert tiles == [(str(strip), str(left * scale), str(top * scale)) for top in made.tops]
    assert len({child.layout for child in steps}) == 1, "each widget more is a message more"


def test_a_long_clip_sends_its_frames_once() -> None:
    rows = clips(200)
    view = scrub(rows, difference=True, n_past=2).widget()
    sheet = view.children[0].value
    assert sheet.count("data:image/png") == 14
    assert max(len(child.value) for child in view.stack.children) < 4000


# ----------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scrub(), "no rows"),
        (lambda: scrub({}), "no rows"),
        (lambda: scrub(clips(), posterior=clips(3)["truth"]), "one length"),
        (lambda: scrub({"truth": np.zeros((3, 3, 8, 8))}), "float64.*to_uint8"),
        (lambda: scrub(clips(), truth=clips()["truth"]), "two clips called 'truth'"),
        (lambda: scrub(samples=clips()["truth"]), r"samples are \(4, 3, 8, 8\).*samples=\[frames"),
        (lambda: scrub(clips(), n_past=5), r"n_past is 5; allowed: 0\.\.4"),
        (lambda: scrub(clips(), fps=0), "fps is 0"),
        (lambda: scrub(clips(), scale=0), "scale is 0"),
    ],
)
def test_clips_that_cannot_be_scrubbed(call, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        call()
