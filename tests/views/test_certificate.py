"""The certificate's picture: what must not be is orange, what is missing has a frame."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from labkit.errors import ShapeError
from labkit.views.certificate import FINE, WRONG, certificate
from labkit.views.figures import figure_png

TRIALS = (
    ("noise", "passed", "predictions are identical"),
    ("gradient", "not applicable", "it costs 5 $ and reads max_value"),
    ("conditions", "failed", "prediction t reads c_{t+1}, and x^_t"),
)


def matrices(n_past: int = 2, horizon: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    frames = np.zeros((n_past + horizon, horizon))
    frames[:n_past] = 0.5
    conditions = np.triu(np.ones((n_past + horizon, horizon)), 2 - n_past)
    return frames, conditions, np.triu(np.full((horizon, horizon), 0.1))


def drawn(frames, conditions, feedback, **more):
    told = {"n_past": 2, "headline": "no leak found", "trials": TRIALS[:2]} | more
    return certificate(frames, conditions, feedback, **told)


def picture(figure, number: int) -> np.ndarray:
    return np.asarray(figure.axes[number].images[0].get_array())


def text_of(figure) -> str:
    return "\n".join(
        text.get_text() for text in figure.findobj(match=lambda a: hasattr(a, "get_text"))
    )


def is_of(pixels: np.ndarray, colour: str) -> np.ndarray:
    """Whether each cell is a shade of that colour: white mixed with it."""
    share = 1 - pixels
    pure = 1 - np.array(to_rgb(colour))
    return np.isclose(share / share.max(-1, keepdims=True), pure / pure.max()).all(-1)


def test_zero_is_white_and_the_context_may_count() -> None:
    pixels = picture(drawn(*matrices()), 1)
    assert (pixels[2:] == 1).all()
    assert is_of(pixels[:2], FINE).all()


def test_a_future_frame_that_counts_is_orange_however_little() -> None:
    frames, conditions, feedback = matrices()
    frames[3, 1:] = (1e-12, 0.3, np.inf)
    pixels = picture(drawn(frames, conditions, feedback), 1)
    assert is_of(pixels[3, 1:], WRONG).all()
    assert (pixels[3, 0] == 1).all()
    assert pixels[3, 1].min() < 0.8  # to be seen on white


def test_a_condition_of_the_target_is_fine_and_a_later_one_is_not() -> None:
    frames, _, feedback = matrices()
    pixels = picture(drawn(frames, np.ones_like(frames), feedback), 2)
    assert is_of(pixels[4, 2:], FINE).all()  # c_4 for x_4 and x_5
    assert is_of(pixels[4, :2], WRONG).all()  # c_4 for x_2 and x_3


def test_what_is_not_fed_back_has_a_frame() -> None:
    frames, conditions, feedback = matrices()
    assert not drawn(frames, conditions, feedback).axes[3].patches
    feedback[1, 2] = 0
    (box,) = drawn(frames, conditions, feedback).axes[3].patches
    assert box.get_xy() == (3.5, 2.5)  # prediction 4 does not answer to prediction 3
    assert "not measured" in text_of(drawn(frames, conditions, None))


def test_everything_said_is_on_it() -> None:
    figure = drawn(
        *matrices(),
        headline="not clean: looks ahead",
        trials=TRIALS,
        findings=[("looks ahead", "x^_t reads x_{t+1}. Mend: do not")],
        protocol="2 -> 4 frames, 3 clips",
    )
    told = text_of(figure)
    for words in ("not clean: looks ahead", "identical", "5 \\$", "max_value", "2 -> 4 frames"):
        assert words in told
    assert r"$\hat{x}_{t}$ reads $x_{t+1}$" in told
    assert figure_png(figure) == figure_png(figure)


@pytest.mark.parametrize("horizon", [1, 28])
def test_short_and_long_horizons(horizon: int) -> None:
    figure_png(drawn(*matrices(3, horizon), n_past=3))


def test_matrices_that_do_not_fit() -> None:
    frames, conditions, feedback = matrices()
    for wrong in (
        (frames[1:], conditions, feedback),
        (frames, conditions[:, 1:], feedback),
        (frames, conditions, feedback[1:]),
    ):
        with pytest.raises(ShapeError):
            drawn(*wrong)
