"""Draws an evaluation: figures, strips, GIFs and the report's page."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labkit.config import Config
from labkit.evaluation import Evaluation
from labkit.evaluation.bootstrap import Interval
from labkit.evaluation.regions import REGIONS
from labkit.files import write_whole
from labkit.reporting.certificate import stored_certificate
from labkit.reporting.run_files import Selection, report_file
from labkit.reporting.tables import REGION_LABELS, sentences, tables_of
from labkit.training import read_history
from labkit.training.history import HISTORY
from labkit.views import (
    figure_png,
    filmstrip,
    gif_bytes,
    png_bytes,
    score_panels,
    training_curves,
    write_report,
)
from labkit.views.figures import LabFigure

NOTES = (
    "The clips below are the first of the split; none was chosen.",
    "Posterior reconstructions see their target frame. They show how much z can carry, and are "
    "not predictions.",
)


def write_views(
    run: Path, evaluation: Evaluation, config: Config, selection: Selection, command: str
) -> None:
    """Draws an evaluation into the run's `figures/`, `gifs/` and `report.html`.

    Args:
        run: the run's folder.
        evaluation: what to draw.
        config: the run's.
        selection: what the evaluation is of, which names the files.
        command: the command that makes it again.
    """
    figures = {
        "psnr": figure_png(_panels(evaluation, "psnr", "PSNR (dB)")),
        "ssim": figure_png(_panels(evaluation, "ssim", "SSIM")),
    }
    # Imported weights have no history, and so no curves of their training.
    curves, training = {}, {}
    if (run / HISTORY).is_file():
        drawn_curves = figure_png(training_curves(read_history(run)))
        curves = {"Losses, PSNR, KL weight and teacher-forcing ratio": drawn_curves}
        training = {"training.png": drawn_curves}
    gifs, strips = {}, {}
    for index in range(len(evaluation.examples["truth"])):
        rows = {kind: frames[index] for kind, frames in evaluation.examples.items()}
        gifs[f"clip {index}"] = gif_bytes(rows, n_past=evaluation.n_past)
        strips[f"clip {index}"] = png_bytes(filmstrip(rows, n_past=evaluation.n_past))
    # The curves of the training are the same for every evaluation.
    drawn = {f"{kind}.png": figures[kind] for kind in ("psnr", "ssim")}
    drawn |= {f"{clip.replace(' ', '_')}.png": data for clip, data in strips.items()}
    moving = {f"{clip.replace(' ', '_')}.gif": data for clip, data in gifs.items()}
    for folder, files in (("figures", training), ("figures", drawn), ("gifs", moving)):
        for file, data in files.items():
            name = file if files is training else selection.name(file)
            write_whole(run / folder / name, data)
    mean = evaluation.mean("psnr")
    proof, proof_sentence = stored_certificate(run)
    write_report(
        report_file(run, selection),
        title=f"Run {run.name}",
        protocol=f"{evaluation.protocol[0].upper()}{evaluation.protocol[1:]}.",
        psnr=evaluation.psnr,
        n_past=evaluation.n_past,
        tables=tables_of(evaluation),
        interval=(float(mean.low), float(mean.high)),
        predicted="the prediction"
        if evaluation.best_of == 1
        else f"the best of {evaluation.best_of} samples, chosen by looking at the truth",
        figures={
            "PSNR of every predicted time step, over the whole frame and by region"
            if evaluation.regions is not None
            else "PSNR of every predicted time step": figures["psnr"],
            "SSIM of every predicted time step": figures["ssim"],
            **curves,
            **proof,
        },
        gifs=gifs,
        strips=strips,
        config=config.to_dict(),
        command=command,
        notes=[*sentences(evaluation), proof_sentence, *NOTES],
    )


def _panels(evaluation: Evaluation, metric: str, quantity: str) -> LabFigure:
    """The curves over time with their intervals; PSNR also by region."""
    shown = [name for name in evaluation.psnr if name not in ("one_sample", "integrated_positions")]
    curves = {name: _curve(evaluation.per_step(metric, name)) for name in shown}
    panels = {"whole frame": curves}
    regions = evaluation.regions
    if regions is not None and metric == "psnr":
        steps = {name: regions.psnr_per_step(name, evaluation.resamples) for name in shown}
        for region, label in REGION_LABELS.items():
            place = list(REGIONS).index(region)
            panels[label] = {name: _curve(steps[name][:, place]) for name in shown}
    return score_panels(panels, evaluation.n_past, evaluation.protocol, quantity=quantity)


def _curve(interval: Interval) -> np.ndarray:
    """(3, horizon): the mean and its bounds."""
    return np.stack([interval.value, interval.low, interval.high])
