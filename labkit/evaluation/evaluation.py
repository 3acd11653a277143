"""An evaluation: every figure of every clip, stored so that runs can be compared clip by clip."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from labkit.data.layout.plain_files import read_plain
from labkit.errors import DataError, RunError
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
    fvd: float | None = None
    """Frechet video distance of one sample of each clip; None if it was not measured"""
    bair_test: bool = False
    """whether these are all clips of BAIR's test split, for which the course gives points"""
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
            "fvd": self.fvd,
            "bair_test": self.bair_test,
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
            summary = json.loads(read_plain(file, _MOST_BYTES))
            if not isinstance(summary, dict):
                raise ValueError(f"a table of figures is expected, not a {type(summary).__name__}")
            if summary.get("format") != FORMAT:
                raise ValueError("of an older labkit")
            data = read_plain(file.with_suffix(".npz"), _MOST_BYTES)
            if hashlib.sha256(data).hexdigest() != summary["arrays"]:
                raise ValueError(f"{file.with_suffix('.npz').name} is of another evaluation")
            values = {"deviation": None, "regions": None, **_nested(_read_arrays(data))}
            values |= {name: summary[name] for name in _PLAIN}
            values["notes"] = tuple(summary["notes"])
            values["fvd"] = summary.get("fvd")
            values["bair_test"] = summary.get("bair_test", False) is True
            _check(values)
            regions = values.pop("regions")
            return Evaluation(
                regions=None if regions is None else RegionScores(**regions), **values
            )
        except DataError as error:  # a file that cannot be read
            what = error.what
        except RecursionError:
            what = "it is nested too deeply"
        except MemoryError:
            what = "its arrays do not fit into memory"
        except Exception as error:  # json, zipfile and numpy raise nearly anything
            reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
            what = reason.partition("\n")[0]
        raise RunError(
            f"no readable evaluation: {what}", file=file, hint="run labkit evaluate"
        ) from None


_MOST_BYTES = 2**31
"""largest file that is read: 2 GB"""

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


def _read_arrays(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of an .npz file. Their headers are compared with the sizes of their data first: a
    damaged header could claim more memory than there is.

    Raises:
        ValueError and others: the file is damaged.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(info.file_size for info in archive.infolist()) > _MOST_BYTES:
            raise ValueError("its arrays are larger than 2 GB")
        for info in archive.infolist():
            with archive.open(info) as stream:
                version = np.lib.format.read_magic(stream)
                read = np.lib.format.read_array_header_1_0
                if version != (1, 0):
                    read = np.lib.format.read_array_header_2_0
                shape, _, kind = read(stream)
            if math.prod(shape) * kind.itemsize > info.file_size:
                raise ValueError(f"{info.filename} is smaller than its header says")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _check(values: dict[str, Any]) -> None:
    """Checks the values that an Evaluation is made of, with `regions` as a dictionary.

    Raises:
        ValueError and others: values have the wrong type, or arrays do not fit
            together.
    """
    for name in values:
        if name not in {item.name for item in dataclasses.fields(Evaluation)} - {"report"}:
            raise ValueError(f"unknown values {name!r}")
    made_with = values["made_with"]
    texts = [values["protocol"], values["name"], *values["notes"]]
    texts += [*made_with, *made_with.values()]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a text is expected for protocol, name, notes and made_with")
    for name, least in (("n_past", 1), ("best_of", 1), ("seed", 0)):
        if type(values[name]) is not int or values[name] < least:
            raise ValueError(f"{name} is {values[name]!r}")
    fvd = values["fvd"]
    if fvd is not None and not (type(fvd) in (int, float) and math.isfinite(fvd)):
        raise ValueError(f"fvd is {fvd!r}")
    shape, clips = values["scores"]["psnr"]["prediction"].shape, len(values["clip_ids"])
    scores = flattened(values["scores"])
    if values["deviation"] is not None:
        scores["deviation"] = values["deviation"]
    for name, array in scores.items():
        if array.shape != shape or array.ndim != 2 or array.dtype.kind != "f":
            raise ValueError(f"{name} is {array.dtype} {array.shape}, not floats {shape}")
    numbers = (values["clip_numbers"], values["starts"])
    per_clip = (values["clip_ids"], *numbers)
    if any(array.shape != (clips,) for array in per_clip) or shape[0] != clips or not clips:
        raise ValueError("its arrays are not of the same clips")
    if any(array.dtype.kind != "i" for array in numbers):
        raise ValueError("clip_numbers or starts are not whole numbers")
    samples = values["samples_psnr"]
    if samples.ndim != 2 or len(samples) != clips or samples.dtype.kind != "f":
        raise ValueError("samples_psnr is not of the same clips")
    if values["regions"] is not None:
        known = {item.name for item in dataclasses.fields(RegionScores)}
        for name, array in flattened(values["regions"]).items():
            if name.partition(".")[0] not in known or array.dtype.kind != "f":
                raise ValueError(f"unknown values regions.{name}")
            if array.shape != (*shape, len(REGIONS)):
                raise ValueError("the regions are not of the same clips")
    for array in (values["examples"][name] for name in ("truth", "prediction", "posterior")):
        if array.dtype != np.uint8 or array.ndim != 5:
            raise ValueError("the examples are not frames")
