"""What a training works with: the clips, the model, its optimizer and its moving average."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from labkit.config import Config
from labkit.cores import usable_cores
from labkit.data.dataset import Batch, ClipDataset, with_columns, with_validation
from labkit.data.gpu_cache import GPUCache, fits
from labkit.data.loader import BatchLoader
from labkit.data.pack import is_pack
from labkit.errors import ConfigError, DataError, RunError
from labkit.fields import differences
from labkit.model import VideoCVAE
from labkit.model.memory import check_memory
from labkit.training.arm_start import start_at_motion
from labkit.training.checkpoint import load_model
from labkit.training.data_order import UpdateSampler, seed_of
from labkit.training.device import Acceleration
from labkit.training.distributed import Processes
from labkit.training.separate_training import train_arm, train_pusher


class TrainingSetup:
    """Everything that a training works with, built from its config."""

    def __init__(
        self,
        config: Config,
        device: torch.device,
        *,
        acceleration: Acceleration | None = None,
        processes: Processes | None = None,
        init_from: Path | None = None,
        resumed: bool = False,
        progress: bool = False,
    ) -> None:
        """
        Args:
            config: all settings of the run.
            device: where to compute.
            acceleration: how; None is what the config says for that device.
            processes: those that share the batches; None is this one alone.
            init_from: folder of a run whose weights are the first ones; None draws them at random.
                The statistics that normalise the condition come with them.
            resumed: the weights will be those of a checkpoint, so nothing is trained beforehand.
            progress: show a bar where a part of the model is trained beforehand.
        Raises:
            RunError: there are no such weights, or they are of another model.
            DataError: the data set cannot be read, or lacks what the config asks for.
            ConfigError: the batch cannot be divided among the processes and parts.
        """
        self.config, self.device = with_validation(with_columns(config)), device
        config = self.config
        self.processes = processes or Processes()
        self.acceleration = acceleration or Acceleration.choose(config.training, device)
        self.clips = ClipDataset.from_config(config.data, "train", labels=False)
        self.validation = ClipDataset.from_config(
            config.data, config.data.validation_split, windows="first", labels=False
        )
        for clips in (self.clips, self.validation):
            _check_size(clips, config)
        torch.manual_seed(seed_of(config.seed, "weights", 0))
        # Weights, gradients, Adam's two means, and the moving average where there is one.
        copies = 5 if config.training.ema_decay else 4
        columns, positions = config.data.condition_size, config.data.position_size
        check_memory(config.model, columns, device, copies, position_size=positions)
        self.model: VideoCVAE = VideoCVAE(config.model, columns, positions)
        if config.model.normalise_condition:
            mean, std = self.clips.condition_statistics()
            self.model.set_condition_statistics(torch.from_numpy(mean), torch.from_numpy(std))
        self.seconds_alone = 0.0
        """what the training of single parts took, before the whole model's"""
        new_pusher = not resumed
        if init_from is not None:
            new_pusher = self._load(init_from)
        elif not resumed:
            start_at_motion(self.model, self.clips)
            self._train_alone(train_arm, "arm", config.training.arm_updates, progress)
        if new_pusher:
            self._train_alone(train_pusher, "pusher", config.training.pusher_updates, progress)
        joint = device.type == "cuda" and self.processes.world > 1
        if joint:
            # Batch norm over the joint batch; torch has none for CPUs.
            nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        self.acceleration.place(self.model)
        self.acceleration.compile(self.model.encoder, self.model.decoder)
        self.optimizer = self.acceleration.optimizer(self.model, config.training)
        decay = config.training.ema_decay
        self.average = (
            AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
            if decay
            else None
        )
        """the moving average of the weights; None where the config asks for none"""
        self.sampler = UpdateSampler(
            len(self.clips),
            config.training.batch_size,
            config.seed,
            range(0),
            rank=self.processes.rank,
            world=self.processes.world,
            parts=config.training.accumulation_steps,
        )
        _check_batch_norm(config, self.sampler.parts[0].count, joint)
        self._cache, self._loader = self._reader()

    @property
    def validated_model(self) -> VideoCVAE:
        """The model that is validated and saved for use: the moving average where there is one."""
        return self.model if self.average is None else self.average.module

    def _train_alone(
        self, trained: Callable[..., None], name: str, updates: int, progress: bool
    ) -> None:
        """Trains a part of the model beforehand, alike in all processes."""
        seed, begun = seed_of(self.config.seed, name, 0), time.monotonic()
        bar = progress and self.processes.is_first
        trained(self.model, self.clips, updates, seed, progress=bar)
        self.seconds_alone += time.monotonic() - begun

    def _load(self, run: Path) -> bool:
        """Takes the weights of another run. Its model may lack the pusher that this one has;
        returns whether it does."""
        model, config = load_model(run)
        own, new = config.model, self.config.model.scene
        adds_pusher = not own.scene.pusher and new.pusher
        # Where the arm's picture started makes no difference to a picture that is trained.
        alike = {"motion_start": new.motion_start, "picture_start": new.picture_start}
        if adds_pusher:
            alike |= {"pusher": True, "pusher_width": new.pusher_width}
        own = dataclasses.replace(own, scene=dataclasses.replace(own.scene, **alike))
        differing = differences(dataclasses.asdict(own), dataclasses.asdict(self.config.model))
        if config.data.condition_size != self.config.data.condition_size:
            sizes = (config.data.condition_size, self.config.data.condition_size)
            differing.append("condition size: {} -> {}".format(*sizes))
        elif model.position_size != self.model.position_size:
            sizes = (model.position_size, self.model.position_size)
            differing.append("columns of the position: {} -> {}".format(*sizes))
        if differing:
            raise RunError(
                f"its weights are of another model: {'; '.join(differing)}",
                file=run,
                hint="give the same model settings",
            )
        weights = model.state_dict()
        if adds_pusher:  # its weights are new
            weights = {**self.model.state_dict(), **weights}
        self.model.load_state_dict(weights)
        return adds_pusher

    def _reader(self) -> tuple[GPUCache | None, BatchLoader | None]:
        """The clips in the GPU's memory, or the loader that reads them."""
        training, cuda = self.config.training, self.device.type == "cuda"
        wanted = training.data_on_device
        if wanted == "on" or (wanted == "auto" and cuda and fits(self.clips, self.device)):
            return GPUCache(self.clips, self.device), None
        workers = training.loader_workers
        if workers < 0:
            workers = min(4, usable_cores()) if cuda else 0
        return None, BatchLoader(self.clips, self.sampler, workers=workers, pin_memory=cuda)

    @property
    def clips_in_words(self) -> str:
        """Where the clips are and how they are read, for the line on the device."""
        if self._cache is not None:
            return "clips in the device's memory"
        workers = 0 if self._loader is None else self._loader.num_workers
        return f"clips read ahead by {workers} workers" if workers else "clips read as needed"

    def batches(self, updates: range) -> Iterable[Batch]:
        """This process's share of the batches of those updates, counted from 0."""
        self.sampler.updates = updates
        if self._cache is not None:
            return self._cache.batches(self.sampler)
        assert self._loader is not None
        return self._loader


DIGESTED = 64
"""number of windows whose frames and conditions go into `clips_digest`"""


def clips_digest(clips: ClipDataset) -> str:
    """A digest of a data set: the number of its clips and windows, and the frames and conditions of
    some windows, evenly spread. Clips that were only moved have the same digest."""
    places = np.linspace(0, len(clips) - 1, min(DIGESTED, len(clips))).astype(np.int64)
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{clips.n_clips} {len(clips)} {clips.n_frames}".encode())
    for place in places:
        batch = clips.batch([int(place)])
        digest.update(batch.frames.numpy().tobytes())
        digest.update(np.ascontiguousarray(batch.condition.numpy()).tobytes())
    return digest.hexdigest()


def check_conditions(clips: ClipDataset) -> None:
    """Raises DataError for the first action or position that is not a finite number."""
    for number in range(clips.n_clips):
        condition = clips.clip_condition(number)  # (T, C)
        wrong = np.argwhere(~np.isfinite(condition))
        if len(wrong):
            row, column = (int(each) for each in wrong[0])
            raise DataError(
                f"clip {number} of {clips.split}: column {column + 1} of the condition is "
                f"{condition[row, column]} in frame {row}",
                file=clips.root,
                row=row + 1,
                hint="labkit data check names all such clips; --fix OUT writes a copy without them",
            )


def _check_size(clips: ClipDataset, config: Config) -> None:
    """Raises DataError where the clips have another frame size than the model."""
    height, width = clips.frame_size
    side = config.model.frame_size
    if (height, width) != (side, side):
        hint = "make a copy with `labkit data check ROOT --fix OUT --resize`"
        if is_pack(clips.root):
            hint = "convert its source again with `labkit data convert SOURCE OUT --resize 64`"
        hint += ": the middle square of each frame, scaled to 64x64"
        if height == width and height % 16 == 0 and 32 <= height <= 128:
            hint = f"set --model.frame-size {height}, or {hint}"
        what = f"frames of {clips.split} are {width}x{height}, the model's {side}x{side}"
        raise DataError(what, file=clips.root, hint=hint)


def _check_batch_norm(config: Config, count: int, joint: bool) -> None:
    """Raises ConfigError where batch norm would see one clip at a time.

    Args:
        config: of the run.
        count: clips in one part of one process's share.
        joint: whether batch norm takes its statistics over all processes.
    """
    if count == 1 and config.model.has_batch_norm and not joint:
        raise ConfigError(
            f"a batch of {config.training.batch_size}, divided among processes and parts, gives "
            "batch norm one clip at a time",
            hint="set a larger training.batch_size, fewer processes or parts, or model.norm=group, "
            "model.predictor_norm=none and model.posterior_norm=none",
        )
