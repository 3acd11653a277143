"""The scrubber's page, opened from disk with the network off, by mouse and keyboard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labkit.views import scrub

pytestmark = pytest.mark.browser

N_PAST, SCALE, FRAMES = 2, 4, 8
ODD = "a<b>&\"'</script><script>alert(1)</script> ü#%.png"


@pytest.fixture(scope="module")
def rows() -> dict[str, np.ndarray]:
    """Clips of noise: no two frames are alike."""
    random = np.random.default_rng(4)
    shape = (FRAMES, 3, 32, 32)
    return {name: random.integers(0, 256, shape, np.uint8) for name in ("truth", "prediction")}


@pytest.fixture
def opened(rows, open_page, tmp_path: Path):
    """The exported page, opened with no network."""
    file = scrub(rows, n_past=N_PAST, scale=SCALE, fps=20).save_html(tmp_path / "clip #1 %.html")
    page = open_page()
    page.context.set_offline(True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    yield page
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def frames_of(page):
    return page.locator(".labkit-scrubber canvas:visible")


def test_the_mouse_takes_the_slider_to_a_frame(opened, rows, seen, drag) -> None:
    assert frames_of(opened).count() == 2
    for step in (0, 5, 3, FRAMES - 1):
        drag(opened.get_by_role("slider"), step)
        for number, clip in enumerate(rows.values()):
            assert seen(frames_of(opened).nth(number), clip, SCALE) == step


def test_the_keys_step_go_to_the_ends_and_play(opened, rows, seen, screenshots) -> None:
    def step() -> int | None:
        return seen(frames_of(opened).first, rows["truth"], SCALE)

    for key, wanted in (
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("ArrowLeft", 0),
        ("ArrowLeft", 0),
        ("End", FRAMES - 1),
        ("ArrowRight", FRAMES - 1),
        ("Home", 0),
    ):
        opened.keyboard.press(key)  # nothing has the focus
        assert step() == wanted, key
    opened.get_by_role("slider").focus()
    opened.keyboard.press("ArrowRight")
    assert step() == 1, "each key is one step with the focus on the slider too"
    opened.get_by_role("button", name="one time step on").click()
    opened.keyboard.press("ArrowRight")
    assert step() == 3
    opened.get_by_label("loop").uncheck()
    opened.locator("body").evaluate("() => document.activeElement.blur()")
    opened.keyboard.press(" ")
    opened.get_by_role("button", name="pause").wait_for()
    opened.get_by_role("button", name="play").wait_for()  # at the end it stops
    assert step() == FRAMES - 1
    opened.screenshot(path=screenshots / "scrubber_page_light.png")


def test_it_loops_at_the_speed_asked_for(opened) -> None:
    # Every time step that the page shows, and when.
    opened.evaluate(
        """() => {
            window.shown = [];
            const where = document.querySelector('.where');
            new MutationObserver(() => shown.push([parseInt(where.textContent.slice(4)),
                performance.now()])).observe(where, {childList: true});
        }"""
    )
    opened.get_by_label("speed").select_option("40")
    opened.get_by_role("button", name="play").click()
    opened.wait_for_function(f"() => shown.length > {FRAMES + 3}")
    opened.get_by_role("button", name="pause").click()
    steps, times = zip(*opened.evaluate("() => shown"), strict=True)
    assert steps[: FRAMES + 3] == (*range(1, FRAMES), *range(4))
    assert times[FRAMES - 1] - times[FRAMES - 2] >= 990, "the last frame stays for a second"
    assert min(np.diff(times)) >= 20, "40 frames a second are 25 ms a frame"


def test_difference_picture_and_psnr(opened, rows, seen, screenshots) -> None:
    gap = np.abs(rows["truth"].astype(int) - rows["prediction"])
    gap = np.minimum(4 * gap, 255).astype(np.uint8)
    opened.get_by_role("checkbox", name="difference").check()
    opened.keyboard.press("ArrowRight")
    assert seen(frames_of(opened).nth(2), gap, SCALE) == 1
    error = (rows["truth"][1] - rows["prediction"][1].astype(float)) ** 2
    said = opened.locator(".psnr").all_text_contents()
    assert said == ["", f"PSNR {10 * np.log10(255**2 / error.mean()):.1f} dB"]
    opened.screenshot(path=screenshots / "scrubber_page_difference.png")


def test_a_screen_reader_is_told_what_is_shown(opened) -> None:
    opened.keyboard.press("ArrowRight")
    slider = opened.get_by_role("slider", name="time step")
    assert slider.get_attribute("aria-valuetext").startswith("t = 1 of 7 · context, prediction ")
    opened.get_by_role("img", name="ground truth, t = 1").wait_for()
    opened.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext").startswith("t = 2 of 7 · future")
    nameless = opened.evaluate(
        """() => [...document.querySelectorAll('button, input, select, canvas')]
            .filter(e => !e.getAttribute('aria-label') && !e.closest('label')).length"""
    )
    assert nameless == 0


def test_the_mark_stands_where_the_context_ends(opened) -> None:
    def middle(selector: str) -> float:
        box = opened.locator(selector).bounding_box()
        return box["x"] + box["width"] / 2

    bar = opened.get_by_role("slider").bounding_box()
    between = [bar["x"] + 8 + (bar["width"] - 16) * t / (FRAMES - 1) for t in (1, 2)]
    assert between[0] + 10 < middle(".ruler .mark") < between[1] - 10


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_themes(scheme: str, rows, open_page, tmp_path, screenshots):
    file = scrub(rows, n_past=N_PAST, scale=SCALE, difference=True).save_html(tmp_path / "a.html")
    page = open_page(color_scheme=scheme)
    page.goto(file.as_uri())
    for selector in ("h1", ".name", ".psnr >> nth=1", ".where", ".legend >> nth=0", ".play"):
        assert contrast(page, selector) >= 4.5, selector
    page.keyboard.press("End")
    assert contrast(page, ".where") >= 4.5
    page.screenshot(path=screenshots / f"scrubber_page_{scheme}_difference.png")


def test_odd_names_are_text_and_nothing_else(open_page, tmp_path: Path) -> None:
    clip = np.zeros((2, 3, 16, 16), np.uint8)
    page = open_page()
    page.on("dialog", lambda dialog: pytest.fail(f"a name was run: {dialog.message}"))
    page.goto(scrub({"truth": clip, ODD: clip}).save_html(tmp_path / "a.html", title=ODD).as_uri())
    assert page.locator(".name").all_text_contents() == ["ground truth", ODD]
    assert page.title() == page.locator("h1").text_content() == ODD
    assert page.locator(".psnr").nth(1).text_content() == "identical"


def test_long_and_short_clips_and_many_samples(
    open_page, seen, drag, tmp_path: Path, screenshots
) -> None:
    random = np.random.default_rng(2)
    long = random.integers(0, 256, (200, 3, 16, 16), np.uint8)
    page = open_page()
    page.goto(scrub(truth=long, n_past=2).save_html(tmp_path / "long.html").as_uri())
    page.locator(".player").wait_for()
    for step in (199, 17, 150):  # each in another strip
        drag(page.get_by_role("slider"), step)
        shown = int(page.get_by_role("slider").input_value())
        assert abs(shown - step) <= 1
        assert seen(frames_of(page).first, long, 4) == shown
    page.goto(scrub(truth=long[:1]).save_html(tmp_path / "one.html").as_uri())
    page.keyboard.press("ArrowRight")
    assert seen(frames_of(page).first, long[:1], 4) == 0
    samples = np.stack([long[10 * n : 10 * n + 5] for n in range(6)])
    view = scrub(truth=long[:5], samples=samples, n_past=5, scale=6)
    page.goto(view.save_html(tmp_path / "many.html").as_uri())
    assert frames_of(page).count() == 7
    page.keyboard.press("End")
    assert seen(frames_of(page).nth(6), samples[5], 6) == 4
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 400
    page.screenshot(path=screenshots / "scrubber_page_narrow.png")


def test_without_scripts_it_is_a_film_strip(rows, open_page, tmp_path: Path) -> None:
    page = open_page(java_script_enabled=False)
    page.goto(scrub(rows, n_past=N_PAST).save_html(tmp_path / "a.html").as_uri())
    strip = page.get_by_role("img", name="Film strip. Rows: ground truth, prediction.")
    assert strip.bounding_box()["width"] > FRAMES * 32


def test_on_paper_it_is_a_film_strip(opened) -> None:
    opened.emulate_media(media="print")
    assert opened.get_by_role("img", name="Film strip.").is_visible()
    assert not opened.get_by_role("slider").is_visible()


def contrast(page, selector: str) -> float:
    """WCAG 2's contrast ratio of an element's text with what lies behind it."""
    colors = page.locator(selector).first.evaluate(
        """element => {
            const rgb = color => {
                const context = document.createElement('canvas').getContext('2d');
                context.fillStyle = color;
                context.fillRect(0, 0, 1, 1);
                return [...context.getImageData(0, 0, 1, 1).data];
            };
            let behind = element;
            while (behind && !rgb(getComputedStyle(behind).backgroundColor)[3])
                behind = behind.parentElement;
            return [rgb(getComputedStyle(element).color),
                rgb(getComputedStyle(behind).backgroundColor)];
        }"""
    )
    light = []
    for color in colors:
        c = np.array(color[:3]) / 255
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        light.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(light) + 0.05) / (min(light) + 0.05)
