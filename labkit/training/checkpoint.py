"""The files of a run: the checkpoint that a resume needs, and the weights for use. They are written
whole or not at all, and read without executing anything in them.

Where weights are averaged over time, `model.safetensors` holds the average, which is what is
evaluated; the weights themselves are in `checkpoint.pt`, as "module", beside the "average".
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialize

from labkit.config import Config, ModelConfig
from labkit.errors import RunError
from labkit.fields import differences
from labkit.files import reading, write_whole
from labkit.model import VideoCVAE
from labkit.model.memory import check_memory
from labkit.training.history import HISTORY, TIMING, EpochRow

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
DELETE = "train into another folder, or delete it and train without --resume"
LATER = ("clips", "threads")
"""Fields of `Progress` that older checkpoints lack."""


@dataclass
class Progress:
    """The state of a training, without its tensors."""

    update: int = 0
    """updates done"""
    best_psnr: float = -math.inf
    """dB, the highest of all validations; that of the weights in `model.safetensors`, unless
    `training.keep` is last"""
    rows: list[EpochRow] = field(default_factory=list)
    """of the finished epochs"""
    sums: dict[str, float] = field(default_factory=dict)
    """of each figure over the current epoch's updates"""
    summed: int = 0
    """number of those updates"""
    displaced: torch.Tensor | None = None
    """the bytes of the best weights, while `model.safetensors` holds those of a training that ran
    out of time; None otherwise"""
    clips: str = ""
    """digest of the training clips (`setup.clips_digest`); empty in older checkpoints"""
    threads: int = 0
    """CPU threads of the training; 0 in older checkpoints, and where a GPU computed"""

    def check(self) -> None:
        """Raises ValueError for values of a damaged checkpoint."""
        kinds = {"update": int, "best_psnr": float, "sums": dict, "summed": int}
        kinds |= {"clips": str, "threads": int}
        for name, kind in kinds.items():
            if type(getattr(self, name)) is not kind:
                raise ValueError(f"{name} is {getattr(self, name)!r:.40}")
        if not (self.update >= self.summed >= 0 <= self.threads < 100000):
            raise ValueError(f"update {self.update}, summed {self.summed}")
        if math.isnan(self.best_psnr) or not all(type(x) is float for x in self.sums.values()):
            raise ValueError("its figures are damaged")
        shown = self.displaced
        if shown is not None and (not torch.is_tensor(shown) or shown.dtype != torch.uint8):
            raise ValueError("the displaced weights are damaged")

    def add(self, values: dict[str, float]) -> None:
        """Adds the figures of one more update."""
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in values.items()}
        self.summed += 1

    def means(self) -> dict[str, float]:
        """The figures' means over the current epoch so far."""
        return {name: total / self.summed for name, total in self.sums.items()}

    def finish_epoch(self, row: EpochRow) -> None:
        """Adds the epoch's row to the history, and begins the next epoch."""
        self.rows.append(row)
        self.sums, self.summed = {}, 0

    def displace(self, run: Path) -> None:
        """Stores the bytes of the best weights' file, which is about to be replaced for a while."""
        file = run / WEIGHTS
        if file.is_file():
            self.displaced = torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.uint8)

    def restore(self, run: Path) -> None:
        """Puts the best weights' file back."""
        if self.displaced is not None:
            write_whole(run / WEIGHTS, self.displaced.numpy().tobytes())
            self.displaced = None


def clear_unfinished(run: Path) -> None:
    """Removes the temporary files of writers that were killed."""
    for name in (CHECKPOINT, WEIGHTS, HISTORY, TIMING, CONFIG):
        for unfinished in run.glob(f".{name}.*.tmp"):
            unfinished.unlink(missing_ok=True)


def save_progress(run: Path, tensors: dict[str, Any], progress: Progress) -> None:
    """Writes the checkpoint of a training: module, average, optimizer, and its progress."""
    values = {**vars(progress), "rows": [vars(row) for row in progress.rows]}
    save_checkpoint(run, {**tensors, **values})


def load_progress(run: Path) -> tuple[dict[str, Any], Progress]:
    """Reads what `save_progress` wrote.

    Raises:
        RunError: there is none, it is damaged, or another version of labkit wrote it.
    """
    state = load_checkpoint(run)
    with reading(run / CHECKPOINT, "not a checkpoint of a training", error=RunError, hint=DELETE):
        # Fields that did not exist when an older checkpoint was written keep their defaults.
        names = [item.name for item in dataclasses.fields(Progress)]
        values = {name: state[name] for name in names if name in state or name not in LATER}
        values["rows"] = [EpochRow(**row) for row in values["rows"]]
        tensors = {name: state[name] for name in ("module", "average", "optimizer")}
        progress = Progress(**values)
        progress.check()
        return tensors, progress


def save_checkpoint(run: Path, state: dict[str, Any]) -> None:
    """Replaces the run's checkpoint. The old one stays until the new one is complete on disk."""
    packed = io.BytesIO()
    torch.save(state, packed)
    write_whole(run / CHECKPOINT, packed.getvalue())


def load_checkpoint(run: Path) -> dict[str, Any]:
    """Reads the run's checkpoint, tensors and plain values only.

    Raises:
        RunError: there is none, or it is damaged.
    """
    file = run / CHECKPOINT
    if not file.is_file():
        raise RunError("no checkpoint to resume from", file=run, hint="train without --resume")
    with reading(file, "not a readable checkpoint", error=RunError, hint=DELETE):
        state = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f"it holds {type(state).__name__}, not a table")
        return state


def save_model(model: VideoCVAE, file: Path, columns: Sequence[str] = ()) -> None:
    """Writes the weights as safetensors, with the settings of their model as metadata. The whole
    config is beside them as `config.json`.

    Args:
        model: whose weights to write.
        file: where to.
        columns: names of the condition's columns, which are written as metadata too.
    """
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    # One entry: safetensors writes several in any order, and the same run has the same bytes.
    shape = {**_shape(model), **({"columns": list(columns)} if columns else {})}
    write_whole(file, serialize(tensors, {"shape": json.dumps(shape)}))


def load_model(run: Path | str, device: str | torch.device = "cpu") -> tuple[VideoCVAE, Config]:
    """The best model of a run, in evaluation mode, and the run's config.

    Raises:
        RunError: the folder is missing, has no weights yet, or its weights do not fit its
            config.
        ConfigError: its config cannot be read.
    """
    run = Path(run)
    if not run.is_dir():
        raise RunError("no such run folder", file=run, hint="labkit train or labkit demo makes one")
    config = Config.load(run / CONFIG)
    file = run / WEIGHTS
    if not file.is_file():
        if (run / CHECKPOINT).is_file():
            what, hint = f"the run has a {CHECKPOINT} but no {WEIGHTS}", RESUME
            raise RunError(what, file=run, hint=f"{hint} --out {shlex.quote(run.as_posix())}")
        raise RunError(f"the run has no {WEIGHTS}", file=run, hint="let it finish an epoch first")
    fit = f"the weights do not fit {CONFIG}"
    with reading(file, fit, error=RunError, hint=SAME):
        stored = _stored_shape(file)
        columns = stored.pop("columns", [])
    size = config.data.condition_size
    # Versions that did not store this took 3 of 7 columns for the position, and no others.
    positions = config.data.position_size if "position_size" in stored else None
    check_memory(config.model, size, position_size=positions)
    model = VideoCVAE(config.model, size, positions)
    with reading(file, fit, error=RunError, hint=SAME):
        shape = {name: value for name, value in _shape(model).items() if name in stored}
        differing = differences(stored, shape)
        names = list(config.data.condition_columns)
        if not differing and columns and columns != names:
            differing = [f"columns: {', '.join(columns)} -> {', '.join(names)}"]
        if differing:
            raise ValueError("; ".join(differing))
        model.load_state_dict(load_file(file))
    return model.to(device).eval(), config


RESUME = "to write the weights of its last update: labkit train --resume"
SAME = "take both from the same run, and the version of labkit that made it"


def _shape(model: VideoCVAE) -> dict[str, Any]:
    """The settings that must agree where weights are loaded into a model."""
    return {
        "model": dataclasses.asdict(model.config),
        "condition_size": model.condition_size,
        "position_size": model.position_size,
    }


def _stored_shape(file: Path) -> dict[str, Any]:
    """The metadata that `save_model` wrote; empty where another program wrote the file."""
    with safe_open(file, framework="pt") as opened:
        stored: dict[str, Any] = json.loads((opened.metadata() or {}).get("shape", "{}"))
    if stored:
        # An option that did not exist when the file was written had its default value.
        stored["model"] = _with_defaults(dataclasses.asdict(ModelConfig()), stored["model"])
    return stored


def _with_defaults(defaults: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """What is stored, and the defaults of what is not, at every depth."""
    nested = {
        name: _with_defaults(value, stored[name])
        for name, value in defaults.items()
        if isinstance(value, dict) and isinstance(stored.get(name), dict)
    }
    return {**defaults, **stored, **nested}
