"""The gallery's pictures of frames: the animation, strips, other actions, several plans."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gallery_builder.picture import Material, Picture
from labkit.data.simulator import SPLIT_OFFSETS, simulate_clip
from labkit.evaluation import evaluate
from labkit.evaluation.controllability import Controllability
from labkit.views import filmstrip, futures_of_plans, gif_bytes, plan, png_bytes, scrub

IN_GIF = 2
"""number of clips in the animation"""


def animation(material: Material, control: Controllability) -> Picture:
    """The first clips, one above the other."""
    rows = {name: _stacked(clips) for name, clips in _named(control).items()}
    return Picture(
        "demo.gif",
        gif_bytes(rows, scale=2, n_past=control.n_past, fps=4),
        "Truth, prediction, and the same context with other actions",
        f"The first {IN_GIF} test clips, not selected. Left: true frames and prediction. "
        "Right: the same first frames with other actions, as simulated and as predicted.",
        "Animation: two clips, true and predicted, and the same two with other actions, simulated "
        "and predicted",
        _without_scores(control),
        "labkit.views.gif_bytes(rows, scale=2, n_past=2, fps=4)",
    )


def _named(control: Controllability) -> dict[str, np.ndarray]:
    """The examples, renamed to the series that have their own colour and label."""
    own = {"what happened": "truth", "predicted": "prediction"}
    return {own.get(name, name): clips for name, clips in control.examples.items()}


def _without_scores(control: Controllability) -> str:
    """Its protocol, without the part on PSNR."""
    return control.protocol.partition("; PSNR")[0]


def _stacked(clips: np.ndarray, gap: int = 1) -> np.ndarray:
    """(K, T, 3, H, W) -> (T, 3, K * (H + gap) - gap, W), white between them."""
    white = np.full((*clips.shape[1:3], gap, clips.shape[-1]), 255, np.uint8)
    parts = [part for clip in clips for part in (clip, white)]
    return np.concatenate(parts[:-1], axis=2)


def strips_and_scrubber(material: Material) -> Iterator[Picture]:
    """The first clip at every time step, and the second with the slider."""
    evaluation = evaluate(
        material.model,
        material.dataset,
        samples=1,
        seed=material.seed,
        clips=2,
        keep=2,
        progress=False,
    )
    n_past = material.n_past
    first, second = (
        {name: clips[number] for name, clips in evaluation.examples.items()} for number in (0, 1)
    )
    truth = first["truth"]
    repeated = truth[np.minimum(np.arange(len(truth)), n_past - 1)]
    said = (
        f"{material.task}, one sample from the prior; first clips of the simulated test split, "
        "none chosen"
    )
    yield Picture(
        "strip.png",
        png_bytes(filmstrip({**first, "repeat_last": repeated}, n_past=n_past)),
        "Every time step",
        "The posterior's reconstruction has seen its target. It shows how much z can carry, and is "
        "not a prediction. Below it is the simplest baseline.",
        "Film strip of a test clip: ground truth, prediction, posterior reconstruction, repeated "
        "last frame",
        said,
        "labkit.views.filmstrip(rows, n_past=2)",
    )
    scrubber = scrub(second, n_past=n_past)
    yield Picture(
        "scrubber.png",
        png_bytes(filmstrip(second, scale=1, n_past=n_past)),
        "The scrubber",
        "In a notebook the rows have a slider, a play button, the PSNR of the current frame and "
        "differences. The picture is what is shown where scripts are not allowed. "
        "[scrubber.html](gallery/scrubber.html) is the page that `to_html` writes: download and "
        "open it; it needs no network.",
        "Film strip that is shown instead of the scrubber where scripts are not allowed",
        said,
        'labkit.views.scrub(rows, n_past=2).save_html("scrubber.html")',
        {"scrubber.html": scrubber.to_html("Second test clip").encode()},
    )


def control_strip(control: Controllability) -> Picture:
    """The first clip with its own actions and with others."""
    rows = {name: clips[0] for name, clips in _named(control).items()}
    return Picture(
        "control.png",
        png_bytes(filmstrip(rows, n_past=control.n_past)),
        "Same context, other actions",
        "The clip is simulated again with the actions of another clip and compared with the "
        "prediction for these actions. `labkit control RUN` measures this and draws such a strip.",
        "Film strip: true frames, prediction, simulation and prediction of other actions",
        _without_scores(control),
        "labkit.views.filmstrip(rows, n_past=2)",
    )


def plans(material: Material) -> Picture:
    """The first clip under four plans."""
    clip = simulate_clip(material.seed, SPLIT_OFFSETS["test"], material.dataset.n_frames)
    horizon = material.config.data.n_future
    plans = {name: plan(name, horizon) for name in ("left", "right", "away", "near")}
    futures = futures_of_plans(
        material.model, clip, plans, n_past=material.n_past, seed=material.seed
    )
    rows = futures.rows()
    last = material.n_past + horizon - 1
    steps = sorted({0, material.n_past - 1, *range(last, material.n_past, -2)})
    return Picture(
        "plans.png",
        png_bytes(filmstrip(rows, scale=1, n_past=material.n_past, steps=steps)),
        "One context, four plans",
        "The arm moves left, right, away from the camera and near to it, with one sample of z. "
        "Below each prediction is its simulation. Some of the steps are shown.",
        "Film strip: four plans for the arm, each predicted and simulated",
        f"{material.task}, one sample from the prior, the same z for each plan; the first "
        "clip of the simulated test split; the gripper's positions are computed from the plan",
        "labkit.views.futures_of_plans(model, clip, plans)",
    )
