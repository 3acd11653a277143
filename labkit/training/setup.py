"""Training VideoCVAE: its data, loss and validation, as the loop wants them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from labkit.config import Config
from labkit.cores import usable_cores
from labkit.data.dataset import Batch, ClipDataset
from labkit.data.gpu_cache import GPUCache, fits
from labkit.data.loader import BatchLoader
from labkit.errors import ConfigError, DataError
from labkit.evaluation.protocol import validation_psnr
from labkit.model import VideoCVAE
from labkit.training.checkpoint import save_model
from labkit.training.data_order import Rows, UpdateSampler, seed_of
from labkit.training.device import Acceleration
from labkit.training.distributed import Processes
from labkit.training.events import Examples
from labkit.training.latent_use import LatentUse, examine
from labkit.training.objective import negative_elbo
from labkit.training.schedules import weights_at

EXAMINED = 16
"""validation clips whose use of the latent is looked at"""
SHOWN = 4
"""of them, whose predictions are shown"""


class TrainingSetup:
    """VideoCVAE on clips, as the trainer sees it (`labkit.training.task.Task`)."""

    def __init__(
        self,
        config: Config,
        device: torch.device,
        *,
        acceleration: Acceleration | None = None,
        processes: Processes | None = None,
    ) -> None:
        """
        Args:
            config: the whole of the run's settings.
            device: where to compute.
            acceleration: how; None is what the config says for that device.
            processes: those that share the batches; None is this one alone.
        Raises:
            DataError: the data set cannot be read, or lacks what the config asks for.
            ConfigError: the batch cannot be shared out so.
        """
        self.config, self.device = config, device
        self.processes = processes or Processes()
        self.acceleration = acceleration or Acceleration.choose(config.training, device)
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
        if device.type == "cuda" and self.processes.world > 1:
            # Batch norm over the joint batch; there is no such thing for CPUs.
            nn.SyncBatchNorm.convert_sync_batchnorm(self.module)
        self.acceleration.place(self.module)
        self.acceleration.compile(self.module.encoder, self.module.decoder)
        self.sampler = UpdateSampler(
            len(self.clips),
            config.training.batch_size,
            config.seed,
            range(0),
            rank=self.processes.rank,
            world=self.processes.world,
            parts=config.training.accumulation_steps,
        )
        joint = device.type == "cuda" and self.processes.world > 1
        _check_batch_norm(config, self.sampler.parts[0].count, joint)
        self._resident, self._loader = self._reader()

    def _reader(self) -> tuple[GPUCache | None, BatchLoader | None]:
        """The clips in the GPU's memory, or what reads them ahead."""
        training, cuda = self.config.training, self.device.type == "cuda"
        wanted = training.data_on_device
        if wanted == "on" or (wanted == "auto" and cuda and fits(self.clips, self.device)):
            return GPUCache(self.clips, self.device), None
        workers = training.loader_workers
        if workers < 0:
            workers = min(4, usable_cores()) if cuda else 0
        return None, BatchLoader(self.clips, self.sampler, workers=workers, pin_memory=cuda)

    @property
    def clips_are(self) -> str:
        """Where the clips are, in words."""
        if self._resident is not None:
            return "clips in the device's memory"
        workers = 0 if self._loader is None else self._loader.num_workers
        return f"clips read ahead by {workers} workers" if workers else "clips read as they come"

    def batches(self, updates: range) -> Iterable[Batch]:
        """This process's share of the batches of those updates."""
        self.sampler.updates = updates
        if self._resident is not None:
            return self._resident.batches(self.sampler)
        assert self._loader is not None
        return self._loader

    def losses(
        self, batch: Batch, update: int, weights: Mapping[str, float], part: int = 0
    ) -> dict[str, Tensor]:
        """The objective on one part of a batch (the whole of it, where none is accumulated).

        What is drawn is drawn for the joint batch of all processes, and these clips take what
        their rows of it are given: so nothing depends on how a batch is shared out.
        """
        parts = self.config.training.accumulation_steps
        count = len(batch) // parts
        own = slice(part * count, (part + 1) * count)
        batch = Batch(batch.frames[own], batch.condition[own]).to(self.device)
        world, rank = self.processes.world, self.processes.rank
        rows = Rows.of(count * parts * world, rank=rank, world=world, part=part, parts=parts)
        seed = seed_of(self.config.seed, "draws", update)
        generator = torch.Generator(self.device).manual_seed(seed)
        n_frames = batch.frames.shape[1]
        heads = self._toss(seed, rows.total, n_frames, weights)
        with self.acceleration.autocast():
            rollout = self.module.rollout(
                batch.frames,
                batch.condition,
                self.config.data.n_past,
                teacher_forced=heads[rows.first : rows.first + rows.count],
                generator=generator,
                **self._extras(rows, n_frames, generator),
            )
        objective = negative_elbo(
            rollout,
            batch.frames[:, 1:],
            weights["kl_weight"],
            self.config.model.observation,
            self.config.kl,
            self.processes.mean,
        )
        return vars(objective)

    def _extras(
        self, rows: Rows, n_frames: int, generator: torch.Generator
    ) -> dict[str, Tensor | bool]:
        """What else the rollout is told: epsilon (B, S, z) of these rows of the joint batch (the
        model draws that of a whole one), which clips (B,) are blind to their targets, and on a
        GPU that it need not wait to look at the clips."""
        extras: dict[str, Tensor | bool] = {"trusted": True} if self.device.type == "cuda" else {}
        if rows.count < rows.total:
            shape = (rows.total, n_frames - 1, sum(self.module.latent_sizes))
            joint = torch.empty(shape, device=self.device).normal_(generator=generator)
            extras["noise"] = joint[rows.first : rows.first + rows.count]
        if self.config.kl.hybrid:
            # The clips of a batch are in no order: the first of it are any of them.
            blind = torch.arange(rows.total) < round(self.config.kl.hybrid * rows.total)
            extras["blind"] = blind[rows.first : rows.first + rows.count]
        return extras

    def _toss(
        self, seed: int, clips: int, n_frames: int, weights: Mapping[str, float]
    ) -> Bool[Tensor, "{clips} {n_frames}-1"]:
        """Draws which steps are given the true frame: once per batch, per clip, or per step."""
        granularity = self.config.teacher_forcing.granularity
        shape = {"batch": (1, 1), "clip": (clips, 1), "step": (clips, n_frames - 1)}[granularity]
        heads = np.random.default_rng(seed).random(shape) < weights["teacher_forcing_ratio"]
        return torch.from_numpy(heads).expand(clips, n_frames - 1)

    def schedule(self, update: int) -> dict[str, float]:
        """KL weight and teacher-forcing ratio of an update, counted from 0."""
        return weights_at(update, self.config)

    def validate(self, module: nn.Module) -> float:
        """Mean PSNR of predictions: free-running, one sample from the prior."""
        return validation_psnr(
            module,
            self.validation,
            clips=self.config.training.validation_clips,
            seed=self.config.seed,
            device=self.device,
        )

    def examine(self, module: nn.Module) -> tuple[LatentUse, Examples]:
        """How the first validation clips use the latent, and predictions of some of them."""
        clips = min(EXAMINED, self.config.training.validation_clips)
        return examine(
            module,
            self.validation,
            clips=clips,
            seed=self.config.seed,
            device=self.device,
            keep=SHOWN,
        )

    def save(self, module: nn.Module, file: Path) -> None:
        """Writes the weights as safetensors."""
        save_model(module, file)


def _check_size(clips: ClipDataset, config: Config) -> None:
    """Raises DataError where the clips have another frame size than the model."""
    height, width = clips.frame_size
    side = config.model.frame_size
    if (height, width) != (side, side):
        raise DataError(
            f"frames of {clips.split} are {width}x{height}, the model's {side}x{side}",
            file=clips.root,
            hint="set --model.frame-size, or make a copy of another size with "
            "`labkit data check ROOT --fix OUT --resize`",
        )


def _check_batch_norm(config: Config, count: int, joint: bool) -> None:
    """Raises ConfigError where batch norm would see one clip at a time, and not those of all
    processes jointly."""
    if count == 1 and config.model.has_batch_norm and not joint:
        raise ConfigError(
            f"a batch of {config.training.batch_size}, shared out, leaves batch norm one clip",
            hint="set a larger training.batch_size, fewer processes or parts, or model.norm=group "
            "and model.predictor_norm=none",
        )
