"""From a trained run to what people look at: figures in numbers, curves, strips, GIFs, a page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from labkit.config import Config
from labkit.data import layout
from labkit.data.clip import Clip
from labkit.data.dataset import ClipDataset
from labkit.errors import DataError, LabkitError
from labkit.evaluation import Evaluation, Protocol, evaluate, find_protocol
from labkit.evaluation.bootstrap import Interval
from labkit.evaluation.leakage import Certificate
from labkit.evaluation.metrics import Metric
from labkit.evaluation.perceptual import Lpips, Network
from labkit.evaluation.protocol import to_uint8
from labkit.evaluation.regions import REGIONS
from labkit.files import write_whole
from labkit.reporting.tables import REGION_LABELS, sentences, tables_of
from labkit.training import load_model, read_history
from labkit.training.checkpoint import WEIGHTS
from labkit.views import (
    figure_png,
    filmstrip,
    gif_bytes,
    png_bytes,
    save_gif,
    score_panels,
    training_curves,
    write_report,
)
from labkit.views.certificate import certificate
from labkit.views.figures import LabFigure

EVALUATION = "evaluation.json"
REPORT = "report.html"
CERTIFICATE, CERTIFICATE_PICTURE = "certificate.json", "certificate.png"
NOTES = (
    "The clips below are the first of the split; none was chosen.",
    "Posterior reconstructions see the frame they are to make: they are an upper reference, "
    "not predictions.",
)


def evaluate_run(
    run: Path | str,
    split: str = "test",
    clips: int | None = None,
    progress: bool = True,
    windows: Literal["first", "all"] = "first",
    data: Path | str | None = None,
    protocol: str = "frame",
    samples: int = 5,
    lpips: Sequence[Network] = ("alex",),
    views: bool = True,
) -> Evaluation:
    """Judges a run on a split and writes `evaluation.json`, `figures/`, `gifs/`, `report.html`.
    Those of another protocol than `frame` have its name in theirs, and lie beside.

    Args:
        run: the run's folder.
        split: whose clips to predict.
        clips: how many; None is all.
        progress: show bars.
        windows: the first window of each clip, or every one.
        data: another data set's folder; None takes the run's own.
        protocol: by name: frame, course, long, svg or best-of-N.
        samples: futures of each clip, from which the spread is measured.
        lpips: the networks to measure LPIPS by. Where one's weights are not at hand, a note says
            so, and how to get them.
        views: draw figures, GIFs and page; False leaves it at `evaluation.json`.
    Raises:
        RunError: the run is not there, or not finished enough to be judged.
        DataError: the data set or the split is not there, or does not fit the run or the protocol.
        LabkitError: an unknown protocol, or one that does not fit the run; no clips, no samples.
    """
    run = Path(run)
    asked = find_protocol(protocol)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, config = load_model(run, device)
    dataset = _dataset(config, asked, split, windows, data or config.data.root)
    perceptual, notes = _perceptual(lpips, device)
    evaluation = evaluate(
        model,
        dataset,
        protocol=asked,
        samples=samples,
        seed=config.seed,
        clips=clips,
        perceptual=perceptual,
        made_with={
            "config": _digest(json.dumps(config.to_dict(), sort_keys=True).encode()),
            "weights": _digest((run / WEIGHTS).read_bytes()),
        },
        notes=notes,
        progress=progress,
        device=device,
    )
    evaluation.save(evaluation_file(run, evaluation.name))
    if not views:
        return evaluation
    options = [f"--protocol {protocol}"] if protocol != "frame" else []
    options += [f"--split {split}"] if split != "test" else []
    options += [f"--clips {clips}"] if clips is not None else []
    options += [f"--windows {windows}"] if windows != "first" else []
    options += [f"--samples {samples}"] if samples != 5 else []
    networks = "both" if len(lpips) > 1 else (*lpips, "none")[0]
    options += [f"--lpips {networks}"] if networks != "alex" else []
    options += [f"--data {data}"] if data is not None else []
    write_views(run, evaluation, config, " ".join(["labkit evaluate", run.as_posix(), *options]))
    return evaluation


def evaluation_file(run: Path | str, protocol: str = "frame") -> Path:
    """Where a run's evaluation by a protocol is kept; `Evaluation.load` reads it."""
    return Path(run) / _of_protocol(EVALUATION, protocol)


def report_file(run: Path | str, protocol: str = "frame") -> Path:
    """Where its page is."""
    return Path(run) / _of_protocol(REPORT, protocol)


def _of_protocol(name: str, protocol: str) -> str:
    """A file's name for a protocol: "report.html", "report-long.html"."""
    stem, _, kind = name.partition(".")
    return name if protocol == "frame" else f"{stem}-{protocol}.{kind}"


def _dataset(
    config: Config, asked: Protocol, split: str, windows: Literal["first", "all"], root: Path | str
) -> ClipDataset:
    """The windows that a protocol asks for, with the run's condition.

    Raises:
        DataError: there is no such data set or split, its clips are too short, or they lack the
            positions.
    """
    seen = ClipDataset(root, split, n_past=1, n_future=1, condition="none", labels=False)
    length = len(seen.clip(0).frames)
    if asked.n_past + asked.n_future > length:
        raise DataError(
            f"protocol {asked.name} needs clips of {asked.n_past + asked.n_future} frames "
            f"({asked.n_past} -> {asked.n_future}), and those of {split} have {length}",
            file=root,
            hint="take another --protocol or longer clips",
        )
    if config.data.condition == "action+position" and not seen.has_positions:
        raise DataError(
            f"clips of {split} have no end-effector positions, which the run was trained with",
            file=root,
            hint="use a run trained with --data.condition action",
        )
    return ClipDataset(
        root,
        split,
        n_past=asked.n_past,
        n_future=asked.n_future,
        condition=config.data.condition,
        windows=windows,
    )


def _perceptual(
    networks: Sequence[Network], device: str
) -> tuple[dict[str, Metric], tuple[str, ...]]:
    """LPIPS by each network whose weights are at hand; a sentence for each whose are not."""
    found: dict[str, Metric] = {}
    notes = []
    for network in networks:
        try:
            found[f"lpips_{network}"] = Lpips(network, device)
        except LabkitError as error:
            # Without the file's place: a report is shown to others.
            notes.append(f"{error.what} ({error.hint}).")
    return found, tuple(notes)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def write_views(run: Path, evaluation: Evaluation, config: Config, command: str) -> None:
    """Draws an evaluation into the run's `figures/`, `gifs/` and `report.html`."""
    name = evaluation.name
    figures = {
        "training": figure_png(training_curves(read_history(run))),
        "psnr": figure_png(_panels(evaluation, "psnr", "PSNR (dB)")),
        "ssim": figure_png(_panels(evaluation, "ssim", "SSIM")),
    }
    gifs, strips = {}, {}
    for index in range(len(evaluation.examples["truth"])):
        rows = {kind: frames[index] for kind, frames in evaluation.examples.items()}
        gifs[f"clip {index}"] = gif_bytes(rows, n_past=evaluation.n_past)
        strips[f"clip {index}"] = png_bytes(filmstrip(rows, n_past=evaluation.n_past))
    training = {"training.png": figures["training"]}
    drawn = {f"{kind}.png": figures[kind] for kind in ("psnr", "ssim")}
    drawn |= {f"{clip.replace(' ', '_')}.png": data for clip, data in strips.items()}
    moving = {f"{clip.replace(' ', '_')}.gif": data for clip, data in gifs.items()}
    for folder, files in (("figures", training), ("figures", drawn), ("gifs", moving)):
        for file, data in files.items():
            place = file if files is training else _of_protocol(file, name)
            write_whole(run / folder / place, data)
    mean = evaluation.mean("psnr")
    proof, proved = _proof(run)
    write_report(
        report_file(run, name),
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
            "Losses, PSNR, KL weight and teacher-forcing ratio": figures["training"],
            **proof,
        },
        gifs=gifs,
        strips=strips,
        config=config.to_dict(),
        command=command,
        notes=[*sentences(evaluation), proved, *NOTES],
    )


def _proof(run: Path) -> tuple[dict[str, bytes], str]:
    """The picture that `labkit prove` has left of these very weights, under its title, and a
    sentence on it; no picture where there is none of them."""
    files = (run / CERTIFICATE, run / CERTIFICATE_PICTURE, run / WEIGHTS)
    try:
        text, picture, weights = (file.read_bytes() for file in files)
        told = json.loads(text)
        if told["weights_sha256"] == hashlib.sha256(weights).hexdigest():
            sentence = f"labkit prove says of these weights: {told['verdict']}."
            return {f"Certificate: {told['verdict']}": picture}, sentence
    except (OSError, ValueError, LookupError, TypeError):
        pass
    return {}, (
        "Whether predictions read future frames was not examined for these weights: labkit prove, "
        "and then labkit evaluate again, puts the certificate here."
    )


def _panels(evaluation: Evaluation, metric: str, quantity: str) -> LabFigure:
    """The curves over time with their intervals; PSNR also by region."""
    shown = [name for name in evaluation.psnr if name != "one_sample"]
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


def certificate_png(proof: Certificate) -> bytes:
    """The picture of a proof against leaks."""
    figure = certificate(
        proof.frames,
        proof.conditions,
        proof.feedback,
        n_past=proof.n_past,
        headline=proof.headline,
        trials=[(trial.name, trial.verdict, trial.text) for trial in proof.trials],
        findings=[(one.leak, f"{one.says}. Mend: {one.hint}") for one in proof.findings],
        protocol=proof.protocol,
    )
    return figure_png(figure)


def predict_clip(run: Path | str, clip_folder: Path | str, out: Path | str) -> None:
    """Predicts the first window of one clip in the course layout and writes it as a GIF beside
    what happened.

    Raises:
        RunError: the run is not there.
        DataError: the clip cannot be read, is too short, or lacks the positions the run needs.
    """
    model, config = load_model(run)
    clip = layout.read_clip(Path(clip_folder))
    frames, condition = window_of(clip, config, clip_folder)
    n_past, horizon = config.data.n_past, config.data.n_future
    generator = torch.Generator().manual_seed(config.seed)
    with torch.inference_mode():
        predicted = model.predict(frames[:, :n_past], condition, horizon, generator=generator)
    truth = to_uint8(frames[0])
    rows = {
        "truth": truth,
        "prediction": np.concatenate([truth[:n_past], to_uint8(predicted[0])]),
    }
    save_gif(out, rows, n_past=n_past)


def window_of(clip: Clip, config: Config, name: Path | str) -> tuple[torch.Tensor, torch.Tensor]:
    """The first window of a clip as a batch of one: frames (1, T, 3, H, W) in [0, 1] and
    condition (1, T, C).

    Raises:
        DataError: the clip is too short, or lacks the positions the run needs.
    """
    needed = config.data.n_frames
    if len(clip.frames) < needed:
        raise DataError(
            f"the clip has {len(clip.frames)} frames; the run needs {needed}", file=name
        )
    condition = clip.actions[:, : config.data.condition_size]
    if config.data.condition == "action+position":
        if clip.positions is None:
            raise DataError(
                "the clip has no end-effector positions, which the run was trained with",
                file=name,
                hint="use a run trained with --data.condition action",
            )
        condition = np.concatenate([clip.actions, clip.positions], axis=1)
    frames = torch.from_numpy(np.ascontiguousarray(clip.frames[:needed])).float() / 255
    return frames[None], torch.from_numpy(np.ascontiguousarray(condition[:needed]))[None]
