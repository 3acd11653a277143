"""Evaluates a model on the clips of a data set by a protocol. Clips are read batch by batch; only
the figures of each frame stay in memory."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from labkit.data.dataset import Batch, ClipDataset
from labkit.errors import LabkitError
from labkit.evaluation.evaluation import Evaluation
from labkit.evaluation.metrics import Metric
from labkit.evaluation.positions import NextPosition, integrated, next_position_of
from labkit.evaluation.protocol import (
    Positions,
    Protocol,
    batches,
    find_protocol,
    fitted,
    is_bair_test,
    sentence,
)
from labkit.evaluation.regions import RegionScores, region_sums
from labkit.evaluation.sampling import Sampler, predicted
from labkit.evaluation.scoring import Scored, Scorer
from labkit.evaluation.video_distance import VideoFeatures, frechet_distance
from labkit.frames import to_uint8
from labkit.model import VideoCVAE

PREDICTORS = (
    "prediction",
    "one_sample",
    "integrated_positions",
    "repeat_last",
    "prior_mean",
    "posterior",
)
"""What is scored:

- prediction: one sample from the prior; in a best-of-N, the best of N samples
- one_sample: in a best-of-N, the first sample
- integrated_positions: the first sample, with the positions at predicted steps added up from the
  actions instead of measured (`labkit.evaluation.positions`)
- repeat_last: the last context frame repeated, the baseline
- prior_mean: the prediction with z at the prior's mean
- posterior: the posterior's reconstruction, which sees its target and is not a prediction"""


def evaluate(
    model: VideoCVAE,
    dataset: ClipDataset,
    *,
    protocol: str | Protocol = "frame",
    samples: int = 5,
    seed: int = 0,
    clips: int | None = None,
    batch_size: int = 32,
    at_once: int = 64,
    keep: int = 4,
    positions: Positions = "measured",
    compare_positions: bool = False,
    perceptual: Mapping[str, Metric] | None = None,
    fvd: VideoFeatures | None = None,
    made_with: Mapping[str, str] | None = None,
    notes: tuple[str, ...] = (),
    progress: bool = True,
    device: str | torch.device = "cpu",
) -> Evaluation:
    """Evaluates a model on the windows of a data set.

    Args:
        model: in evaluation mode.
        dataset: its windows are taken in order. Its context and horizon are used, also where the
            protocol's own are others.
        protocol: by name (`labkit.evaluation.protocol`), or one of your own.
        samples: samples of each clip, from which the sample diversity is measured; with 1 it is not
            measured. A best-of-N takes its N.
        seed: of the prior's samples. Each clip's samples follow from the seed and the clip alone.
        clips: number of windows; None is all.
        batch_size: windows predicted together.
        at_once: sequences predicted together where there are samples; it bounds the memory.
        keep: number of clips whose frames are stored as examples.
        positions: where the end-effector positions in the conditions of predicted steps come from,
            if the condition has any.
        compare_positions: with measured positions, score "integrated_positions" too.
        perceptual: further metrics by name, such as {"lpips_alex": Lpips("alex")}.
        fvd: the network of the Frechet video distance between the true clips and one sample of
            each, context frames included; None leaves it out.
        made_with: digests of the run's weights and config, stored with the figures.
        notes: sentences stored with the figures.
        progress: show a bar.
        device: where to compute.
    Raises:
        LabkitError: an unknown protocol, or one that the model or the data set does not fit; no
            clips, or no samples.
    """
    named = find_protocol(protocol) if isinstance(protocol, str) else protocol
    used = fitted(named, dataset, model)
    count = _count(dataset, clips)
    if samples < 1:
        raise LabkitError(f"samples is {samples}", hint="give at least 1")
    drawn = used.best_of if used.best_of > 1 else samples
    # With many samples a batch has fewer clips, so that the progress bar still moves.
    size = max(1, min(batch_size, 4 * at_once // drawn))
    sampler, scorer = Sampler(model, seed, at_once), Scorer(used, perceptual or {})
    collected = _Figures(used, sampler, scorer, drawn, keep)
    collected.features = fvd
    if dataset.condition == "action+position" and (compare_positions or positions != "measured"):
        collected.rule, collected.positions = next_position_of(dataset), positions
    if positions == "integrated" and collected.rule is None:
        raise LabkitError(
            "positions cannot be added up from the actions: the condition has no positions, or its "
            "columns are not BAIR's",
            file=dataset.root,
            hint="leave --positions out",
        )
    bar = tqdm(total=count, disable=not progress, unit="clip", desc=f"evaluating, {used.name}")
    with bar, torch.inference_mode():
        for numbers, batch in batches(dataset, count, size):
            collected.add(batch, [dataset.clip_of(number) for number in numbers], device)
            bar.update(len(numbers))
    return collected.result(
        sentence(used, dataset, count, model.config.condition_at, positions),
        seed=seed,
        made_with=dict(made_with or {}),
        notes=notes,
        bair_test=count == len(dataset) and is_bair_test(dataset),
    )


class _Figures:
    """The figures of the batches that were added."""

    def __init__(
        self, used: Protocol, sampler: Sampler, scorer: Scorer, samples: int, keep: int
    ) -> None:
        self.protocol, self.sampler, self.scorer = used, sampler, scorer
        self.samples, self.missing = samples, keep
        self.positions: Positions = "measured"
        self.rule: NextPosition | None = None
        self.features: VideoFeatures | None = None
        self.parts: dict[tuple[str, ...], list[np.ndarray]] = defaultdict(list)

    def add(self, batch: Batch, windows: list[tuple[int, int]], device: str | torch.device) -> None:
        """Predicts and scores one batch, given as the data set holds it."""
        self.parts["clips",].append(np.array(windows, np.int64))
        self.parts["ids",].append(np.array([_identity(frames) for frames in batch.frames]))
        batch = batch.to(device)
        n_past = self.protocol.n_past
        truth, labels = batch.frames[:, n_past:], batch.labels
        labels = None if labels is None else labels[:, n_past:]
        expected = None
        if self.rule is not None:
            expected = integrated(batch.condition, n_past, self.rule)
        if self.positions == "integrated" and expected is not None:
            batch, expected = replace(batch, condition=expected), None
        drawn = self.sampler.draw(batch, n_past, windows, self.samples, self.scorer)
        films = {**self._references(batch, windows), "prediction": drawn.first}
        if expected is not None:
            noise = self.sampler.noise(windows, range(1), batch.frames.shape[1] - 1)
            films["integrated_positions"] = predicted(
                self.sampler.model, batch.frames, expected, n_past, noise=noise
            )
        scored = {name: self.scorer(frames, truth, labels) for name, frames in films.items()}
        if self.features is not None:
            context = batch.frames[:, :n_past]
            for name, film in (("truth", truth), ("prediction", drawn.first)):
                self._put(("features", name), self.features(torch.cat([context, film], dim=1)))
        if drawn.scored is not None:
            scored["one_sample"], scored["prediction"] = scored["prediction"], drawn.scored.best()
            films["prediction"] = drawn.best
        self._add_scores(scored, labels)
        self._put(("samples", "psnr"), drawn.psnr.mean(dim=-1))
        if drawn.deviation is not None:
            self._put(("samples", "deviation"), drawn.deviation.mean(dim=(-2, -1)))
            if labels is not None:
                self._put(("region", "deviation"), region_sums(drawn.deviation, labels))
        self._add_examples({"truth": truth, **films}, batch.frames[:, :n_past])

    def _references(self, batch: Batch, windows: list[tuple[int, int]]) -> dict[str, Tensor]:
        """The frames that the prediction is compared with: baseline, prior's mean, posterior."""
        n_past, horizon = self.protocol.n_past, self.protocol.n_future
        model, context = self.sampler.model, batch.frames[:, :n_past]
        noise = self.sampler.noise(windows, range(1), n_past + horizon - 1)
        return {
            "repeat_last": context[:, -1:].expand(-1, horizon, -1, -1, -1),
            "prior_mean": predicted(model, batch.frames, batch.condition, n_past, sample=False),
            "posterior": model.reconstruct(batch.frames, batch.condition, n_past, noise=noise),
        }

    def _add_scores(self, scored: dict[str, Scored], labels: Tensor | None) -> None:
        for name, figures in scored.items():
            for metric, values in figures.values.items():
                self._put(("score", metric, name), values)
            for kind, sums in figures.regions.items():
                self._put(("region", kind, name), sums)
        if labels is not None:
            ones = torch.ones_like(labels, dtype=torch.float32)
            self._put(("region", "count"), region_sums(ones, labels))

    def _add_examples(self, films: dict[str, Tensor], context: Tensor) -> None:
        """Stores the first clips' frames, as copies: a slice would keep the whole batch alive."""
        for name in ("truth", "prediction", "posterior"):
            film = torch.cat([context, films[name]], dim=1)[: self.missing]
            self.parts["example", name].append(to_uint8(film, clip=True))
        self.missing = max(0, self.missing - len(context))

    def _put(self, key: tuple[str, ...], values: Tensor) -> None:
        self.parts[key].append(values.cpu().numpy().copy())

    def result(self, protocol: str, **more: object) -> Evaluation:
        """The evaluation; `protocol` is its sentence."""
        tables: dict[str, dict] = {}
        for key, parts in self.parts.items():
            place = tables
            for word in key[:-1]:
                place = place.setdefault(word, {})
            place[key[-1]] = np.concatenate(parts)
        return Evaluation(
            protocol=protocol,
            name=self.protocol.name,
            n_past=self.protocol.n_past,
            best_of=self.protocol.best_of,
            scores={
                metric: {name: table[name] for name in PREDICTORS if name in table}
                for metric, table in tables["score"].items()
            },
            samples_psnr=tables["samples"]["psnr"],
            deviation=tables["samples"].get("deviation"),
            regions=RegionScores(**tables["region"]) if "region" in tables else None,
            clip_ids=tables["ids"],
            clip_numbers=tables["clips"][:, 0],
            starts=tables["clips"][:, 1],
            examples=tables["example"],
            fvd=None if self.features is None else frechet_distance(*tables["features"].values()),
            **more,  # type: ignore[arg-type]
        )


def _count(dataset: ClipDataset, clips: int | None) -> int:
    if clips is not None and clips < 1:
        raise LabkitError(f"clips is {clips}", hint="give at least 1, or leave it out for all")
    return len(dataset) if clips is None else min(clips, len(dataset))


def _identity(frames: Tensor) -> str:
    """A digest of a window's frames: the same wherever they are stored."""
    return hashlib.blake2b(frames.contiguous().numpy().tobytes(), digest_size=8).hexdigest()
