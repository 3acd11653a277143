"""The figures of the latents: what is drawn, read back from the figure."""

from __future__ import annotations

import numpy as np
import pytest

from labkit.errors import ShapeError
from labkit.views import figure_png, kl_heat_map, prior_and_posterior, traversal_strips
from labkit.views.deviation import deviation_map


def test_the_largest_kl_stands_on_top() -> None:
    kl = np.tile([0.1, 0.0, 0.5, 0.2], (3, 1))
    heat, bars, *_ = kl_heat_map(kl, n_past=2, most=3).axes
    assert [label.get_text() for label in heat.get_yticklabels()] == ["2", "3", "0"]
    np.testing.assert_array_equal(heat.images[0].get_array(), [[0.5] * 3, [0.2] * 3, [0.1] * 3])
    assert [bar.get_width() for bar in bars.patches] == pytest.approx([0.5, 0.2, 0.1])
    assert heat.lines[0].get_xdata()[0] == 1.5, "between t = 1 and t = 2"
    assert "3 largest of 4; 0.8 nats" in heat.figure.get_suptitle()


def test_a_collapsed_latent_is_white_and_not_an_error() -> None:
    heat = kl_heat_map(np.zeros((3, 4))).axes[0]
    assert heat.images[0].norm(0.0) == 0
    assert heat.images[0].norm.vmax > 0


def test_a_traversal_shows_each_value_and_the_change() -> None:
    frames = np.full((1, 3, 3, 4, 4), 100, np.uint8)
    frames[0, 0, 0], frames[0, 2, 1] = 90, 200
    figure = traversal_strips(frames, [7], (-2, 0, 2), scores=[0.25], gain=8)
    low, middle, high, change = (axes.images[0].get_array() for axes in figure.axes)
    for shown, frame in zip((low, middle, high), frames[0], strict=True):
        np.testing.assert_array_equal(shown, frame.transpose(1, 2, 0))
    assert change[0, 0].tolist() == [80, 255, 0]
    titles = [axes.get_title(loc="center") for axes in figure.axes]
    assert titles == ["-2 σ", "mean", "+2 σ", "change × 8"]
    assert figure.axes[0].get_ylabel() == "latent 7\n0.25 nats"


@pytest.mark.parametrize("known", [False, True])
def test_deviations_stand_under_their_frames_in_the_same_colours(known) -> None:
    truth, sample = np.full((3, 3, 4, 4), 100, np.uint8), np.full((3, 3, 4, 4), 90, np.uint8)
    own, possible = np.full((3, 4, 4), 2.0), np.full((3, 4, 4), 5.0)
    own[2] = 4.0
    figure = deviation_map(truth, sample, own, 2, "said", possible if known else None)
    rows = [truth.transpose(0, 2, 3, 1), sample.transpose(0, 2, 3, 1), own, possible]
    pictures = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(pictures) == (12 if known else 9)
    for picture, expected in zip(pictures, (frame for row in rows for frame in row), strict=False):
        np.testing.assert_array_equal(picture.get_array(), expected)
    for picture in pictures[6:]:
        assert (picture.norm.vmin, picture.norm.vmax) == (0, 4.0), "those of the samples"


def test_a_deviation_that_is_not_finite_is_told() -> None:
    frames, own = np.zeros((3, 3, 4, 4), np.uint8), np.zeros((3, 4, 4))
    for maps in ((own * np.nan, None), (own, own * np.nan)):
        with pytest.raises(ShapeError, match="not finite"):
            deviation_map(frames, frames, maps[0], 2, "said", maps[1])


def test_densities_are_those_of_the_gaussians() -> None:
    q_mean, q_std = np.array([[1.0, 0.0], [-1.0, 0.0]]), np.full((2, 2), 0.5)
    zero, one = np.zeros((2, 2)), np.ones((2, 2))
    figure = prior_and_posterior(q_mean, q_std, zero, one, [0])
    prior, together = figure.axes[0].lines
    z = prior.get_xdata()
    np.testing.assert_allclose(prior.get_ydata(), np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi))
    for line in (prior, together):
        assert np.trapezoid(line.get_ydata(), z) == pytest.approx(1, abs=0.01)
    assert together.get_ydata()[len(z) // 2] < together.get_ydata().max() / 3, "two humps"


def test_the_same_arrays_make_the_same_bytes() -> None:
    kl = np.random.default_rng(1).random((3, 4))
    assert figure_png(kl_heat_map(kl), dpi=40) == figure_png(kl_heat_map(kl), dpi=40)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kl_heat_map(np.zeros((0, 4))), r"the KL is \(0, 4\)"),
        (
            lambda: traversal_strips(np.zeros((1, 2, 3, 4, 4), np.uint8), [1], [0.0]),
            "1 latents, 1 values",
        ),
        (lambda: prior_and_posterior(*np.ones((4, 2, 2)), [2]), r"latents are \[2\]"),
        (lambda: prior_and_posterior(*np.ones((4, 2, 2)), []), r"latents are \[\]"),
    ],
)
def test_arrays_that_cannot_be_drawn(call, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        call()
