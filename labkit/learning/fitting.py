"""Training VideoCVAE: its data, loss and validation, put before the loop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from labkit.config import Config
from labkit.data.dataset import Batch, ClipDataset
from labkit.data.loader import BatchLoader
from labkit.errors import DataError, LabkitError, RunError
from labkit.evaluation.protocol import validation_psnr
from labkit.fields import differences
from labkit.learning.checkpoint import CHECKPOINT, CONFIG, save_model
from labkit.learning.history import EpochRow
from labkit.learning.objective import negative_elbo
from labkit.learning.order import UpdateSampler, seed_of
from labkit.learning.schedules import kl_weight, teacher_forcing_ratio
from labkit.learning.trainer import Trainer
from labkit.model import VideoCVAE


class VideoTask:
    """VideoCVAE on clips, as the trainer sees it."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        self.clips = ClipDataset.from_config(config.data, "train", labels=False)
        self.validation = ClipDataset.from_config(
            config.data, config.data.validation_split, windows="first", labels=False
        )
        for clips in (self.clips, self.validation):
            _check_size(clips, config)
        torch.manual_seed(seed_of(config.seed, "weights", 0))
        self.module: VideoCVAE = VideoCVAE(config.model, config.data.condition_size)
        if config.model.normalise_condition:
            mean, std = self.clips.condition_statistics()
            self.module.set_condition_statistics(torch.from_numpy(mean), torch.from_numpy(std))
        # Convolutions run faster with channels last, on CPUs and GPUs alike.
        self.module.to(device, memory_format=torch.channels_last)

    def batches(self, updates: range) -> Iterable[Batch]:
        """The batches of those updates."""
        sampler = UpdateSampler(
            len(self.clips), self.config.training.batch_size, self.config.seed, updates
        )
        return BatchLoader(self.clips, sampler, pin_memory=self.device.type == "cuda")

    def losses(self, batch: Batch, update: int, weights: Mapping[str, float]) -> dict[str, Tensor]:
        """The objective on one batch."""
        batch = batch.to(self.device)
        seed = seed_of(self.config.seed, "draws", update)
        rollout = self.module.rollout(
            batch.frames,
            batch.condition,
            self.config.data.n_past,
            teacher_forced=self._toss(seed, *batch.frames.shape[:2], weights),
            generator=torch.Generator(self.device).manual_seed(seed),
        )
        objective = negative_elbo(
            rollout,
            batch.frames[:, 1:],
            weights["kl_weight"],
            self.config.model.observation,
            self.config.kl,
        )
        return vars(objective)

    def _toss(
        self, seed: int, clips: int, n_frames: int, weights: Mapping[str, float]
    ) -> Bool[Tensor, "{clips} {n_frames}-1"]:
        """Which steps are fed the true frame: one coin a batch, a clip, or a step of a clip."""
        coin = self.config.teacher_forcing.coin
        shape = {"batch": (1, 1), "clip": (clips, 1), "step": (clips, n_frames - 1)}[coin]
        heads = np.random.default_rng(seed).random(shape) < weights["teacher_forcing_ratio"]
        return torch.from_numpy(heads).expand(clips, n_frames - 1)

    def schedule(self, epoch: int) -> dict[str, float]:
        """KL weight and teacher-forcing ratio of an epoch, counted from 0."""
        epochs = self.config.training.epochs
        return {
            "kl_weight": kl_weight(epoch, epochs, self.config.kl),
            "teacher_forcing_ratio": teacher_forcing_ratio(epoch, self.config.teacher_forcing),
        }

    def validate(self, module: nn.Module) -> float:
        """Mean PSNR of predictions: free-running, one sample from the prior."""
        return validation_psnr(
            module,
            self.validation,
            clips=self.config.training.validation_clips,
            seed=self.config.seed,
            device=self.device,
        )

    def save(self, module: nn.Module, file: Path) -> None:
        """Writes the weights as safetensors."""
        save_model(module, file)


def train(
    config: Config,
    run: Path | str,
    *,
    resume: bool = False,
    minutes: float | None = None,
    progress: bool = True,
    device: str | torch.device | None = None,
) -> list[EpochRow]:
    """Trains a model and leaves everything about it in the run folder.

    Args:
        config: the whole of the run's settings.
        run: its folder, made where missing.
        resume: go on from the run's checkpoint, as if it had never stopped.
        minutes: stop after this time at most, with everything saved; None is no limit.
        progress: show a bar.
        device: where to compute; None takes a GPU where there is one.
    Returns:
        the history, one row an epoch.
    Raises:
        RunError: the run exists already, or cannot be resumed with this config.
        DataError: the data set cannot be read, or lacks what the config asks for.
        TrainingError: a loss is not finite.
        LabkitError: the minutes are not above 0, or a file cannot be written.
    """
    run = Path(run)
    check_minutes(minutes)
    _claim(run, config, resume)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    trainer = Trainer(VideoTask(config, device), config.training, run, progress=progress)
    if resume:
        trainer.resume()
    run.mkdir(parents=True, exist_ok=True)
    config.save(run / CONFIG)
    return trainer.fit(minutes)


def check_minutes(minutes: float | None) -> None:
    """Raises LabkitError for a limit that leaves no time."""
    if minutes is not None and not minutes > 0:
        raise LabkitError(f"minutes is {minutes}", mend="give more than 0, or leave it out")


def _check_size(clips: ClipDataset, config: Config) -> None:
    """Raises DataError where the clips have another frame size than the model."""
    height, width = clips.frame_size
    side = config.model.frame_size
    if (height, width) != (side, side):
        raise DataError(
            f"frames of {clips.split} are {width}x{height}, the model's {side}x{side}",
            file=clips.root,
            mend="set --model.frame-size, or make a copy of another size with "
            "`labkit data check ROOT --fix OUT --resize`",
        )


def _claim(run: Path, config: Config, resume: bool) -> None:
    """Raises RunError where training into this folder would lose something."""
    if resume:
        if not (run / CONFIG).is_file():
            raise RunError("no run to resume", file=run, mend="train without --resume")
        differing = differences(Config.load(run / CONFIG).to_dict(), config.to_dict())
        if differing:
            raise RunError(
                f"the run was made with other settings: {'; '.join(differing)}",
                file=run,
                mend="resume with the same settings, or train into another folder",
            )
    elif (run / CHECKPOINT).exists():
        raise RunError(
            "there is a run in this folder already",
            file=run,
            mend="add --resume to go on with it, or choose another folder",
        )
