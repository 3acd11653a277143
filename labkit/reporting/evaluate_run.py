"""Evaluates a run: figures in numbers, curves, strips, GIFs, a page."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from labkit.config import Config
from labkit.data.dataset import ClipDataset
from labkit.errors import DataError, LabkitError
from labkit.evaluation import Evaluation, Protocol, evaluate, find_protocol
from labkit.evaluation.metrics import Metric
from labkit.evaluation.perceptual import Lpips, Network
from labkit.evaluation.protocol import Positions, with_window
from labkit.evaluation.video_distance import VideoFeatures
from labkit.reporting.run_files import Selection, evaluation_file, report_file
from labkit.reporting.run_views import write_views
from labkit.training import load_model
from labkit.training.checkpoint import WEIGHTS


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
    n_past: int | None = None,
    n_future: int | None = None,
    device: str | None = None,
    positions: Positions = "measured",
    fvd: bool = True,
    i3d: Path | str | None = None,
) -> Evaluation:
    """Evaluates a run on a split and writes `evaluation.json`, `figures/`, `gifs/`, `report.html`.
    Every choice that is not the default is part of these names (`Selection`): a part never
    replaces the whole.

    Args:
        run: the run's folder.
        split: whose clips to predict.
        clips: only the first so many; None is all.
        progress: show bars.
        windows: the first window of each clip, or every one.
        data: another data set's folder; None takes the run's own.
        protocol: by name: frame, course, long, svg, videogpt or best-of-N.
        samples: samples of each clip, from which the sample diversity is measured.
        lpips: the networks to measure LPIPS by. Where one's weights are not at hand, a note says
            so, and how to get them.
        views: draw figures, GIFs and page; False writes only `evaluation.json` and its arrays.
        n_past, n_future: another window than the protocol's, or for `frame` and best-of-N another
            than the run's own.
        device: where to compute; None takes a GPU if there is one.
        positions: end-effector positions in the conditions of predicted steps, for runs that use
            them: as measured, or added up from the actions. With measured ones the prediction is
            also scored with those added up.
        fvd: measure the Frechet video distance. Where its network's weights are not at hand, a note
            says so, and how to get them.
        i3d: the file of that network; None takes the one in LABKIT_I3D or in torch's cache.
    Raises:
        RunError: the run is not there, or has no weights yet.
        DataError: the data set or the split is not there, or does not fit the run or the protocol.
        LabkitError: an unknown protocol, or one that does not fit the run; no clips, no samples.
    """
    run = Path(run)
    named = find_protocol(protocol)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model, config = load_model(run, device)
    own = config.data.n_past, config.data.n_future
    default, used = with_window(named, own), with_window(named, own, n_past, n_future)
    root = Path(config.data.root if data is None else data)
    dataset = _dataset(config, used, split, windows, root)
    selection = Selection(
        named.name,
        split,
        None if root.resolve() == Path(config.data.root).resolve() else root,
        None if clips is None or clips >= len(dataset) else clips,
        windows == "all",
        None if used == default else (used.n_past, used.n_future),
        positions == "integrated",
    )
    perceptual, notes = _perceptual(lpips, device)
    features, note = _video_features(i3d, used, len(dataset), device) if fvd else (None, ())
    evaluation = evaluate(
        model,
        dataset,
        protocol=used,
        samples=samples,
        seed=config.seed,
        clips=clips,
        positions=positions,
        compare_positions=True,
        perceptual=perceptual,
        made_with={
            "config": _digest(json.dumps(config.to_dict(), sort_keys=True).encode()),
            "weights": _digest((run / WEIGHTS).read_bytes()),
        },
        notes=(*notes, *note),
        fvd=features,
        progress=progress,
        device=device,
    )
    evaluation.save(evaluation_file(run, selection))
    if not views:
        return evaluation
    words = ["labkit", "evaluate", run.as_posix()]
    words += ["--protocol", protocol] if protocol != "frame" else []
    words += ["--n-past", str(n_past)] if n_past is not None else []
    words += ["--n-future", str(n_future)] if n_future is not None else []
    words += ["--positions", positions] if positions != "measured" else []
    words += ["--split", split] if split != "test" else []
    words += ["--clips", str(clips)] if clips is not None else []
    words += ["--windows", windows] if windows != "first" else []
    words += ["--samples", str(samples)] if samples != 5 else []
    networks = "both" if len(lpips) > 1 else (*lpips, "none")[0]
    words += ["--lpips", networks] if networks != "alex" else []
    words += ["--i3d", str(i3d)] if i3d is not None else []
    words += ["--data", str(data)] if data is not None else []
    write_views(run, evaluation, config, selection, shlex.join(words))
    return replace(evaluation, report=report_file(run, selection))


def _dataset(
    config: Config,
    protocol: Protocol,
    split: str,
    windows: Literal["first", "all"],
    root: Path,
) -> ClipDataset:
    """The windows of a protocol, with the run's condition.

    Raises:
        DataError: there is no such data set or split, its clips are too short, or they lack the
            positions.
    """
    clips = ClipDataset(root, split, n_past=1, n_future=1, condition="none", labels=False)
    length, needed = int(clips.lengths.max()), protocol.n_past + protocol.n_future
    if needed > length:
        raise DataError(
            f"protocol {protocol.name} needs clips of {needed} frames ({protocol.n_past} -> "
            f"{protocol.n_future}), and those of {split} have {length}",
            file=root,
            hint=f"give a shorter window, such as --n-past {min(2, length - 1)} --n-future "
            f"{length - min(2, length - 1)}, or longer clips",
        )
    if config.data.condition == "action+position" and not clips.has_positions:
        raise DataError(
            f"clips of {split} have no end-effector positions, which the run was trained with",
            file=root,
            hint="use a run trained with --data.condition action",
        )
    return ClipDataset(
        root,
        split,
        n_past=protocol.n_past,
        n_future=protocol.n_future,
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


def _video_features(
    file: Path | str | None, protocol: Protocol, clips: int, device: str
) -> tuple[VideoFeatures | None, tuple[str, ...]]:
    """The network of FVD if it is at hand and fits; else None and a sentence."""
    frames = protocol.n_past + protocol.n_future
    try:
        features = VideoFeatures(file, device)
        features(torch.zeros(1, frames, 3, 64, 64))
        if clips < 2:
            raise LabkitError("FVD is not measured: it needs two clips or more", hint="give more")
    except LabkitError as error:
        # Without the file's place: a report is shown to others.
        return None, (f"{error.what} ({error.hint}).",)
    return features, ()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
