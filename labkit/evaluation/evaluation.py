"""An evaluation: every figure of every clip, stored so that runs can be compared clip by clip."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from labkit.errors import RunError
from labkit.evaluation.bootstrap import LEVEL, Interval, Resamples
from labkit.evaluation.regions import REGIONS, RegionScores
from labkit.fields import flattened
from labkit.files import write_whole

FORMAT = 2
"""version of the two files' format; version 1 had only means"""

DIGITS = {"psnr": 3, "channel_psnr": 3}
"""decimals of a metric in the summary; of all others 4"""


@dataclass(frozen=True)
class Evaluation:
    """Figures of N windows and `horizon` time steps, and a few clips to look at.

    Two evaluations can be compared clip by clip (`scores[m][p].mean(axis=1)`, one value a window)
    if their `clip_ids` and their protocol's `name` are the same.
    """

    protocol: str
    """one sentence: name, context, horizon, number of samples, best-of-N or not, condition, data,
    how PSNR is averaged"""
    name: str
    """name of the protocol: frame, course, long, svg, best-of-N"""
    n_past: int
    """context frames: the first value is of time step n_past"""
    best_of: int
    """number of samples of which the prediction is the best; 1 is a single sample"""
    scores: dict[str, dict[str, Float[np.ndarray, "N horizon"]]]
    """by metric and predictor. Metrics: psnr (dB, averaged as the protocol says), channel_psnr
    (dB, per channel, as the course grades), ssim, and lpips_alex, lpips_vgg where measured.
    Predictors: prediction, one_sample (in a best-of-N), repeat_last, prior_mean, posterior"""
    samples_psnr: Float[np.ndarray, "N S"]
    """dB, mean over time, of each of S samples of each clip"""
    deviation: Float[np.ndarray, "N horizon"] | None
    """standard deviation between the samples, mean over pixels, in grey levels of 255; None where
    there was but one"""
    regions: RegionScores | None
    """the same by region, where the clips have labels"""
    clip_ids: np.ndarray
    """digest of each window's frames, 16 letters (N,): the same in every run and folder"""
    clip_numbers: Int[np.ndarray, " N"]
    """number of the clip in its split"""
    starts: Int[np.ndarray, " N"]
    """first frame of the window in the clip"""
    examples: dict[str, np.ndarray]
    """"truth", "prediction" and "posterior" of the first clips, uint8 (K, T, 3, H, W); each starts
    with the context frames"""
    seed: int = 0
    """seed of the samples"""
    made_with: dict[str, str] = field(default_factory=dict)
    """digests of the run's config and weights: "config", "weights" """
    notes: tuple[str, ...] = ()
    """what could not be measured, and how it can be"""
    report: Path | None = field(default=None, compare=False)
    """the page that was written of it; not stored"""

    @property
    def psnr(self) -> dict[str, Float[np.ndarray, "N horizon"]]:
        """PSNR in dB by predictor, as the protocol averages it."""
        return self.scores["psnr"]

    @property
    def ssim(self) -> dict[str, Float[np.ndarray, "N horizon"]]:
        """SSIM by predictor."""
        return self.scores["ssim"]

    @property
    def clips(self) -> int:
        """Number of windows."""
        return len(self.clip_ids)

    @cached_property
    def resamples(self) -> Resamples:
        """The draws of clips that all intervals are from."""
        return Resamples(self.clip_numbers)

    def mean(self, metric: str, predictor: str = "prediction") -> Interval:
        """A metric's mean over time and clips, with its interval over clips."""
        return self.resamples.mean(self.scores[metric][predictor].mean(axis=1))

    def per_step(self, metric: str, predictor: str = "prediction") -> Interval:
        """The same for each time step, (horizon,)."""
        return self.resamples.mean(self.scores[metric][predictor])

    def summary(self) -> dict[str, Any]:
        """The figures averaged over clips, in numbers of JSON's own: each predictor's mean, its
        value at each step, and the intervals; and each clip's mean over time."""
        return {
            "format": FORMAT,
            "protocol": self.protocol,
            "name": self.name,
            "clips": self.clips,
            "n_past": self.n_past,
            "best_of": self.best_of,
            "seed": self.seed,
            "made_with": self.made_with,
            "notes": list(self.notes),
            "intervals": f"percentile bootstrap over clips, {LEVEL:.0%}",
            **{
                metric: {
                    name: _with_steps(self.mean(metric, name), self.per_step(metric, name), metric)
                    for name in table
                }
                for metric, table in self.scores.items()
            },
            **({} if self.regions is None else {"regions": self._regions_summary()}),
            "per_clip": {
                "ids": self.clip_ids.tolist(),
                **{
                    metric: {name: _rounded(v.mean(axis=1), metric) for name, v in table.items()}
                    for metric, table in self.scores.items()
                },
            },
        }

    def _regions_summary(self) -> dict[str, Any]:
        assert self.regions is not None
        table: dict[str, Any] = {"share_of_pixels": self.regions.shares()}
        for name in self.regions.squared:
            mean = self.regions.psnr(name, self.resamples)
            steps = self.regions.psnr_per_step(name, self.resamples)
            ssim = self.regions.mean_ssim(name, self.resamples)
            for place, region in enumerate(REGIONS):
                table.setdefault(region, {})[name] = {
                    "psnr": _with_steps(mean[place], steps[:, place], "psnr"),
                    "ssim": {
                        "mean": _rounded(ssim.value[place], "ssim"),
                        "interval": _bounds(ssim[place], "ssim"),
                    },
                }
        return table

    def save(self, file: Path | str) -> None:
        """Writes the summary as JSON, and all figures and examples beside it as .npz. Each file is
        written whole; `load` recognises two files that are not of one evaluation."""
        file = Path(file)
        packed = io.BytesIO()
        np.savez_compressed(packed, **self._arrays())
        summary = self.summary() | {"arrays": hashlib.sha256(packed.getvalue()).hexdigest()}
        write_whole(file.with_suffix(".npz"), packed.getvalue())
        write_whole(file, _json(summary))

    def _arrays(self) -> dict[str, np.ndarray]:
        """Every array under a dotted name: "scores.psnr.prediction", "regions.count", ..."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        values["regions"] = {} if self.regions is None else vars(self.regions)
        return {
            name: array
            for name, array in flattened(values).items()
            if isinstance(array, np.ndarray)
        }

    @staticmethod
    def load(file: Path | str) -> Evaluation:
        """Reads what `save` wrote.

        Raises:
            RunError: there is no evaluation there, or half of one, or an older one.
        """
        file = Path(file)
        try:
            summary = json.loads(file.read_text(encoding="utf-8"))
            data = file.with_suffix(".npz").read_bytes()
            if summary.get("format") != FORMAT:
                raise ValueError("of an older labkit")
            if hashlib.sha256(data).hexdigest() != summary["arrays"]:
                raise ValueError(f"{file.with_suffix('.npz').name} is of another evaluation")
            with np.load(io.BytesIO(data)) as arrays:
                tables = _nested({name: arrays[name] for name in arrays.files})
            regions = tables.pop("regions", None)
            return Evaluation(
                **{name: summary[name] for name in _PLAIN},
                notes=tuple(summary["notes"]),
                regions=None if regions is None else RegionScores(**regions),
                **{"deviation": None, **tables},
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"no readable evaluation: {error}", file=file, hint="run labkit evaluate"
            ) from None


_PLAIN = ("protocol", "name", "n_past", "best_of", "seed", "made_with")


def _with_steps(mean: Interval, steps: Interval, metric: str) -> dict[str, Any]:
    return {
        "mean": _rounded(mean.value, metric),
        "interval": _bounds(mean, metric),
        "per_step": _rounded(steps.value, metric),
        "per_step_low": _rounded(steps.low, metric),
        "per_step_high": _rounded(steps.high, metric),
    }


def _bounds(interval: Interval, metric: str) -> list[float | None]:
    return [_rounded(interval.low, metric), _rounded(interval.high, metric)]


def _rounded(values: Any, metric: str) -> Any:
    """Numbers or lists of numbers, rounded; None for NaN, which JSON cannot hold."""
    values = np.asarray(values, np.float64)
    if values.ndim:
        return [_rounded(value, metric) for value in values]
    return None if np.isnan(values) else round(float(values), DIGITS.get(metric, 4))


def _json(summary: dict[str, Any]) -> str:
    """Indented JSON with every list on one line."""
    lists: list[str] = []

    def with_marks(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: with_marks(inner) for key, inner in value.items()}
        if isinstance(value, list):
            lists.append(json.dumps(value))
            return f"list {len(lists) - 1} of them"
        return value

    text = json.dumps(with_marks(summary), indent=1)
    for place, line in enumerate(lists):
        text = text.replace(f'"list {place} of them"', line, 1)
    return text + "\n"


def _nested(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for name, values in arrays.items():
        *path, last = name.split(".")
        place = tables
        for word in path:
            place = place.setdefault(word, {})
        place[last] = values
    return tables
