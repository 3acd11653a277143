"""Every hyper-parameter, documented where it is declared, and the presets built from them.

A config is a tree of frozen dataclasses. It is checked when it is made, saved as
`config.json` in the run it produced, and reads back to an equal object.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from labkit.errors import ConfigError
from labkit.fields import Between, Checked, build
from labkit.files import write_whole


@dataclass(frozen=True)
class DataConfig(Checked):
    """Which clips, and which part of each."""

    root: str = "data/simulated"
    """folder of the data set: the course layout, or a pack"""
    condition: Literal["action+position", "action"] = "action+position"
    """what the model is told of the robot: 4 action columns, with or without the 3 of the
    end-effector's position"""
    n_past: Annotated[int, Between(1, 100)] = 2
    """number of context frames"""
    n_future: Annotated[int, Between(1, 1000)] = 10
    """horizon: number of frames to predict"""
    windows: Literal["all", "first"] = "all"
    """training windows of n_past + n_future frames: every one of a clip, or the first alone
    (the course's way). Validation and evaluation take the first."""
    validation_split: str = "validate"
    """the split whose predictions choose the best weights while training"""

    @property
    def n_frames(self) -> int:
        """Frames in one window: n_past + n_future."""
        return self.n_past + self.n_future

    @property
    def condition_size(self) -> int:
        """Columns of the condition: 7 or 4."""
        return 7 if self.condition == "action+position" else 4


@dataclass(frozen=True)
class ModelConfig(Checked):
    """The shape of VideoCVAE."""

    backbone: Literal["dcgan64", "vgg64"] = "dcgan64"
    """convolutional encoder and decoder, named as in SVG (Denton & Fergus 2018)"""
    width: Annotated[int, Between(4, 512)] = 64
    """channels of the backbone's first stage; each further stage doubles them, up to 8 x"""
    norm: Literal["batch", "group"] = "batch"
    """normalisation in the backbone. Batch statistics differ between training and a
    free-running rollout; group statistics do not"""
    encoding_size: Annotated[int, Between(1, 4096)] = 128
    """size of an encoding h_t and of a predicted encoding g_t (the course's g_dim)"""
    latent_size: Annotated[int, Between(1, 4096)] = 64
    """size of the latent z_t (the course's z_dim)"""
    hidden_size: Annotated[int, Between(1, 4096)] = 256
    """hidden units of every LSTM (the course's rnn_size)"""
    predictor_layers: Annotated[int, Between(1, 8)] = 2
    """layers of the frame predictor LSTM_theta"""
    posterior_layers: Annotated[int, Between(1, 8)] = 1
    """layers of the posterior LSTM_phi"""
    predictor_norm: bool = True
    """batch norm between the predictor's last linear layer and its tanh, as in the course's
    sample code; SVG has none"""
    skip: Literal["last_context", "previous"] = "last_context"
    """which frame's encoder features the decoder sees through its skip connections: those of
    the last context frame, or those of the frame just fed back (x_{t-1} or its prediction)"""
    film: bool = False
    """let the condition scale and shift the decoder's features at every stage
    (FiLM, Perez et al. 2018), besides joining the predictor's input"""
    posterior_condition: bool = False
    """let the posterior see the condition, q(z_t | x_{1:t}, c), as the CVAE's equation says;
    the course's sample code leaves it out"""
    output: Literal["sigmoid", "composed"] = "sigmoid"
    """paint every pixel anew, or blend the previous frame moved by a dense flow, the last
    context frame and fresh pixels under predicted masks (after Finn et al. 2016)"""
    condition_at: Literal["previous", "target"] = "previous"
    """the condition that leads from x_{t-1} to x_t: c_{t-1}, or c_t, which some public
    solutions use and which tells where the arm has arrived"""
    normalise_condition: bool = False
    """scale each condition column to mean 0 and deviation 1 over the training windows; the
    statistics are saved with the weights"""


@dataclass(frozen=True)
class KLConfig(Checked):
    """The KL weight beta over training (`labkit.learning.schedules.kl_weight`)."""

    schedule: Literal["constant", "monotonic", "cyclical"] = "cyclical"
    """constant at the maximum, one ramp from 0, or one ramp a cycle (Fu et al. 2019)"""
    max_weight: Annotated[float, Between(0.0, 1000.0)] = 1.0
    """the weight at the top of a ramp. The loss is mean squared error over pixels + weight x
    KL summed over latent dimensions, so even 1e-4 is a strong pull towards the prior"""
    cycles: Annotated[int, Between(1, 1000)] = 3
    """number of cycles in the whole training (the course's kl_anneal_cycle)"""
    ratio: Annotated[float, Between(1.0, 1000.0)] = 2.0
    """a ramp takes 1/ratio of its cycle (the course's kl_anneal_ratio; R = 1/ratio in Fu et
    al.); the weight stays at its maximum for the rest"""


@dataclass(frozen=True)
class TeacherForcingConfig(Checked):
    """The probability that a batch is fed true frames instead of its own predictions."""

    start: Annotated[float, Between(0.0, 1.0)] = 1.0
    """ratio at epoch 0 (the course's tfr)"""
    decay_start: Annotated[int, Between(0, 1000000)] = 0
    """epoch at which the ratio begins to fall (the course's tfr_start_decay_epoch)"""
    decay_step: Annotated[float, Between(0.0, 1.0)] = 0.01
    """how much the ratio falls each epoch (the course's tfr_decay_step)"""
    lower_bound: Annotated[float, Between(0.0, 1.0)] = 0.0
    """the ratio never falls below this (the course's tfr_lower_bound)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lower_bound > self.start:
            raise ConfigError(
                f"TeacherForcingConfig.lower_bound is {self.lower_bound}; "
                f"allowed: 0..{self.start:g}, the start"
            )


@dataclass(frozen=True)
class TrainingConfig(Checked):
    """How the weights are fitted."""

    epochs: Annotated[int, Between(1, 1000000)] = 300
    """number of epochs; the schedules move once an epoch"""
    updates_per_epoch: Annotated[int, Between(1, 1000000)] = 600
    """weight updates an epoch (the course's epoch_size), whatever the data set's size"""
    batch_size: Annotated[int, Between(1, 100000)] = 12
    """windows in a batch"""
    learning_rate: Annotated[float, Between(0.0, 10.0)] = 0.002
    """Adam's learning rate, at its highest"""
    learning_rate_schedule: Literal["constant", "cosine"] = "constant"
    """constant, or a short linear warm-up and a cosine down to a hundredth"""
    adam_beta1: Annotated[float, Between(0.0, 0.9999)] = 0.9
    """decay of Adam's mean of gradients"""
    gradient_clip: Annotated[float, Between(0.0, 1e9)] = 0.0
    """largest norm of the gradient; 0 switches clipping off"""
    ema_decay: Annotated[float, Between(0.0, 0.999999)] = 0.0
    """decay of the moving average of the weights that is evaluated and kept; 0 switches it
    off"""
    validation_clips: Annotated[int, Between(1, 1000000)] = 256
    """clips of the validation split predicted after an epoch, to choose the best weights"""
    validate_every: Annotated[int, Between(1, 1000000)] = 1
    """epochs between two validations; the last epoch is always validated"""


@dataclass(frozen=True)
class Config(Checked):
    """One training run, whole."""

    seed: Annotated[int, Between(0, 2**31 - 1)] = 1
    """seed of the weights, the data order and every random draw"""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    kl: KLConfig = field(default_factory=KLConfig)
    teacher_forcing: TeacherForcingConfig = field(default_factory=TeacherForcingConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def to_dict(self) -> dict[str, Any]:
        """The config as nested dictionaries of JSON's own types."""
        return dataclasses.asdict(self)

    def save(self, file: Path | str) -> None:
        """Writes the config as JSON, whole or not at all."""
        write_whole(file, json.dumps(self.to_dict(), indent=2) + "\n")

    @staticmethod
    def load(file: Path | str) -> Config:
        """Reads what `save` wrote.

        Raises:
            ConfigError: the file is missing, is not JSON, or has an unknown field or one out of
                range; the message names the file and the field.
        """
        file = Path(file)
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError("no such file", file=file) from None
        except (OSError, ValueError) as error:
            raise ConfigError(f"not a readable config: {error}", file=file) from None
        try:
            return from_dict(values)
        except ConfigError as error:
            raise ConfigError(error.what, file=file, mend=error.mend) from None


def from_dict(values: dict[str, Any]) -> Config:
    """A config from nested dictionaries; fields left out keep their defaults.

    Raises:
        ConfigError: an unknown field (with the nearest known one) or a value out of range.
    """
    return build(Config, values, "config")


# ---------------------------------------------------------------------------- the presets

COURSE = Config(
    data=DataConfig(windows="first"),
    kl=KLConfig(schedule="cyclical", max_weight=1.0, cycles=3, ratio=2.0),
    teacher_forcing=TeacherForcingConfig(),
    model=ModelConfig(backbone="vgg64"),
)
"""The course's sample code: vgg64, batch norm, g 128, z 64, rnn 256, batch 12, 300 x 600."""

SPEC = dataclasses.replace(
    COURSE, model=dataclasses.replace(COURSE.model, encoding_size=64, latent_size=128)
)
"""As COURSE, with the sizes of the course's written specification: g 64, z 128."""

REPORT = dataclasses.replace(COURSE, kl=dataclasses.replace(COURSE.kl, cycles=4))
"""As COURSE, with the settings of the report this lab started from: 4 cycles, ratio 2."""

DEMO = Config(
    model=ModelConfig(
        backbone="dcgan64",
        width=16,
        norm="group",
        encoding_size=128,
        latent_size=16,
        hidden_size=128,
        predictor_norm=False,
        skip="previous",
        film=True,
        posterior_condition=True,
        output="composed",
        normalise_condition=True,
    ),
    kl=KLConfig(schedule="cyclical", max_weight=1e-5, cycles=3, ratio=2.0),
    teacher_forcing=TeacherForcingConfig(start=1.0, decay_step=0.25),
    training=TrainingConfig(
        epochs=20,
        updates_per_epoch=40,
        batch_size=8,
        learning_rate=0.002,
        learning_rate_schedule="cosine",
        gradient_clip=1.0,
        ema_decay=0.98,
        validation_clips=64,
        validate_every=4,
    ),
)
"""Minutes on 2 CPU cores, and the network that gets furthest in them."""

SMOKE = dataclasses.replace(
    DEMO,
    model=dataclasses.replace(DEMO.model, width=4, encoding_size=16, latent_size=4, hidden_size=16),
    training=dataclasses.replace(
        DEMO.training,
        epochs=2,
        updates_per_epoch=4,
        batch_size=4,
        validation_clips=4,
        validate_every=1,
    ),
)
"""Seconds: for tests and for a first look."""

PRESETS: dict[str, Config] = {
    "demo": DEMO,
    "course": COURSE,
    "spec": SPEC,
    "report": REPORT,
    "smoke": SMOKE,
}
"""The presets by name."""


def preset(name: str) -> Config:
    """The preset of that name.

    Raises:
        ConfigError: there is no such preset; the message lists those there are.
    """
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}; there are: {', '.join(PRESETS)}")
    return PRESETS[name]
