"""The gallery's curves: scores over time, the training, the schedules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from gallery_builder.picture import Picture
from gallery_builder.schedule_gallery import every_schedule, schedule_figure
from labkit.config import Config
from labkit.errors import RunError
from labkit.evaluation.evaluation import Evaluation
from labkit.experiments.page import FIGURE, NUMBERS, PAGE
from labkit.files import reading
from labkit.reporting.run_files import evaluation_file
from labkit.reporting.tables import REGION_LABELS
from labkit.training import read_history
from labkit.views import figure_png, score_panels, training_curves


def stored_evaluation(run: Path) -> dict[str, Any]:
    """The contents of `evaluation.json`.

    Raises:
        RunError: it is not there or cannot be read.
    """
    file = evaluation_file(run)
    Evaluation.load(file)  # checks every part of it
    return json.loads(file.read_text(encoding="utf-8"))


def scores(stored: dict[str, Any]) -> Picture:
    """PSNR over time of a stored evaluation, whole frame and regions."""
    panels = {"whole frame": {name: _curve(one) for name, one in stored["psnr"].items()}}
    regions = stored.get("regions", {})
    for region, label in REGION_LABELS.items():
        if region in regions:
            panels[label] = {
                name: _curve(regions[region][name]["psnr"])
                for name in panels["whole frame"]
                if name in regions[region]
            }
    for curves in panels.values():
        curves.pop("one_sample", None)
    return Picture(
        "psnr.png",
        figure_png(score_panels(panels, stored["n_past"], stored["protocol"])),
        "PSNR of every predicted time step",
        "Beside the baselines: the last context frame repeated, and the prediction with z at the "
        "prior's mean. The posterior's reconstruction has seen its target.",
        "Curves of PSNR against the time step, by method and by region of the frame",
        stored["protocol"],
        "labkit evaluate runs/demo",
    )


def side_by_side(experiment: Path) -> Picture:
    """The comparison of an experiment, with its answer.

    Raises:
        RunError: the folder has no readable comparison.
    """
    file = experiment / NUMBERS
    with reading(file, "no readable comparison", error=RunError, hint="run labkit experiment"):
        stored = json.loads(file.read_text(encoding="utf-8"))
        answer = " ".join(stored["answer"])
        protocol, command = str(stored["protocol"]), str(stored["command"])
        picture = (experiment / FIGURE).read_bytes()
    place = f"{experiment.name}/{PAGE}"
    return Picture(
        FIGURE,
        picture,
        "Trainings side by side",
        f"{answer} [{place}]({place}) is the whole page: download and open it.",
        "Losses, PSNR and schedules of several trainings against the epochs; their mean PSNR and "
        "paired differences with intervals",
        protocol,
        command,
    )


def _curve(stored: dict[str, Any]) -> np.ndarray:
    """(3, horizon): the mean and its bounds, NaN if they were not stored."""
    nothing = [None] * len(stored["per_step"])
    bounds = (stored.get(name, nothing) for name in ("per_step", "per_step_low", "per_step_high"))
    return np.array(list(bounds), dtype=float)


def training(run: Path, config: Config) -> Picture:
    """The run's history and schedules."""
    training, kl = config.training, config.kl
    return Picture(
        "training.png",
        figure_png(training_curves(read_history(run))),
        "Training",
        "Loss, KL divergence and validation PSNR over the epochs; below them the schedules of KL "
        "weight and teacher-forcing ratio.",
        "Four panels over the epochs: loss, KL divergence, validation PSNR, schedules",
        f"{training.epochs} epochs of {training.updates_per_epoch} updates, batches of "
        f"{training.batch_size}; {kl.schedule} KL schedule; PSNR on {training.validation_clips} "
        "validation clips, free-running, one sample from the prior",
        "labkit demo",
    )


def schedules() -> Picture:
    """Every schedule."""
    rows, epochs = every_schedule()
    return Picture(
        "schedules.png",
        figure_png(schedule_figure(rows, epochs)),
        "Schedules",
        "Every schedule of the KL weight, the teacher-forcing ratio and the learning rate.",
        "Small panels: schedules of KL weight, teacher-forcing ratio and learning rate",
        f"pure functions of the epoch, drawn over {len(epochs)} points of 300 epochs; no run",
        "gallery_builder.schedule_gallery.schedule_figure(*every_schedule())",
    )
