"""Pictures made of frames: the animation, strips, other actions, several plans."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gallery_builder.picture import Material, Picture
from labkit.data.simulator import SPLIT_OFFSETS, simulate_clip
from labkit.evaluation import evaluate
from labkit.evaluation.controllability import Controllability
from labkit.views import filmstrip, futures_of_plans, gif_bytes, plan, png_bytes, scrub

IN_GIF = 2
"""clips in the animated picture"""


def animation(material: Material, control: Controllability) -> Picture:
    """The first clips under each other: the GIF's "clips" are stacks of them."""
    rows = {name: _stacked(films) for name, films in _named(control).items()}
    return Picture(
        "demo.gif",
        gif_bytes(rows, scale=2, n_past=control.n_past, fps=4),
        "Truth, prediction, and the same past with other actions",
        f"The first {IN_GIF} test clips, not chosen ones. Left: what happened, and what the model "
        "makes of the first frames and the robot's actions. Right: from the same frames the robot "
        "is told something else; what the simulator then does, and what the model predicts.",
        "Animation: two clips, each as it happened, as predicted, and the same two with other "
        "actions",
        _without_scores(control),
        "labkit.views.gif_bytes(rows, scale=2, n_past=2, fps=4)",
    )


def _named(control: Controllability) -> dict[str, np.ndarray]:
    """The examples, under the names that have a colour and a label of their own."""
    own = {"what happened": "truth", "predicted": "prediction"}
    return {own.get(name, name): films for name, films in control.examples.items()}


def _without_scores(control: Controllability) -> str:
    """Its protocol, less how PSNR is averaged: none is shown."""
    return control.protocol.partition("; PSNR")[0]


def _stacked(films: np.ndarray, gap: int = 1) -> np.ndarray:
    """(K, T, 3, H, W) -> (T, 3, K * (H + gap) - gap, W), white between them."""
    white = np.full((*films.shape[1:3], gap, films.shape[-1]), 255, np.uint8)
    parts = [part for film in films for part in (film, white)]
    return np.concatenate(parts[:-1], axis=2)


def strips_and_scrubber(material: Material) -> Iterator[Picture]:
    """The first clip at every time step, and the second under the slider."""
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
        {name: films[number] for name, films in evaluation.examples.items()} for number in (0, 1)
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
        "The posterior's reconstruction has seen the frames it makes: it is an upper reference and "
        "no prediction. Under it the simplest rival.",
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
        "In a notebook the same rows lie under a slider: play, step with the arrow keys, the PSNR "
        "of the frame shown, differences. This is what is left of it where no script may run. "
        "[scrubber.html](gallery/scrubber.html) is the page that `to_html` makes of it: "
        "download it and open it; it needs no network.",
        "Film strip that stands for the scrubber where no script may run",
        said,
        'labkit.views.scrub(rows, n_past=2).save_html("scrubber.html")',
        {"scrubber.html": scrubber.to_html("Second test clip").encode()},
    )


def control_strip(control: Controllability) -> Picture:
    """The first clip with its own actions and with others."""
    rows = {name: films[0] for name, films in _named(control).items()}
    return Picture(
        "control.png",
        png_bytes(filmstrip(rows, n_past=control.n_past)),
        "Same past, other actions",
        "The clip's scene is simulated again with the actions of another clip. What the model "
        "predicts for them is held against what they really do. `labkit control RUN` measures it, "
        "and draws such a strip.",
        "Film strip: what happened and its prediction, what other actions do and its prediction",
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
        "One past, four plans",
        "The arm is told to go left, right, away from the camera and near to it, with one draw of "
        "z; under each prediction what the simulator does. Some of the steps are shown.",
        "Film strip: four plans for the arm, each predicted and simulated",
        f"{material.task}, one sample from the prior, the same z for each plan; the first "
        "clip of the simulated test split; "
        "the gripper's positions are those the plan asks for",
        "labkit.views.futures_of_plans(model, clip, plans)",
    )
