"""Every hyper-parameter, documented where it is declared (presets of them: `presets.py`).

A config is a tree of frozen dataclasses. It is checked when it is made, saved as
`config.json` in the run it produced, and reads back to an equal object.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from labkit.course_names import in_lab_names
from labkit.errors import ConfigError
from labkit.fields import Between, Checked, build
from labkit.files import reading, write_whole

CONDITION_SIZES = {"action+position": 7, "action": 4, "none": 0}
"""Columns of each kind of condition."""


@dataclass(frozen=True)
class DataConfig(Checked):
    """Which clips, and which part of each."""

    root: str = "data/simulated"
    """folder of the data set: the course layout, or a pack"""
    condition: Literal["action+position", "action", "none"] = "action+position"
    """what the model reads of the robot: the action columns (BAIR has 4), with or without those of
    its position (BAIR has 3); or nothing, as in action-free video prediction"""
    n_past: Annotated[int, Between(1, 100)] = 2
    """number of context frames"""
    n_future: Annotated[int, Between(1, 1000)] = 10
    """horizon: number of frames to predict"""
    windows: Literal["all", "first"] = "all"
    """training windows of n_past + n_future frames: every one of a clip, or the first alone
    (the course's way). Validation and evaluation take the first."""
    validation_split: str = "validate"
    """the split whose predictions choose the best weights while training"""
    hold_out: Annotated[int, Between(0, 1000000)] = 0
    """training clips, the last ones of their split, that are not trained on: they take the place
    of the validation split. A training on data without that split sets it to a tenth of the
    clips"""
    action_columns: str = "dx, dy, close_gripper, lift"
    """names of the action columns; training reads them from the data set"""
    position_columns: str = "x, y, z"
    """names of the columns of the robot's position or state; training reads them from the data
    set"""

    @property
    def n_frames(self) -> int:
        """Frames in one window: n_past + n_future."""
        return self.n_past + self.n_future

    @property
    def condition_size(self) -> int:
        """Columns of the condition; BAIR has 7, 4 or 0."""
        return len(self.condition_columns)

    @property
    def position_size(self) -> int:
        """How many of the condition's columns, the last ones, are the robot's position."""
        alone = dataclasses.replace(self, condition="action")
        return self.condition_size - alone.condition_size if self.condition != "none" else 0

    @property
    def condition_columns(self) -> tuple[str, ...]:
        """Names of the columns of the condition."""
        names = {"none": "", "action": self.action_columns}
        both = ", ".join(filter(None, (self.action_columns, self.position_columns)))
        chosen = names.get(self.condition, both)
        return tuple(chosen.split(", ")) if chosen else ()


@dataclass(frozen=True)
class SceneConfig(Checked):
    """The parts of `model.output=scene` (`labkit.model.scene`). Each can be switched off."""

    arm: bool = True
    """a learned picture of the arm, with transparency, over the table"""
    pictures: Annotated[int, Between(1, 16)] = 3
    """pictures of the arm whose weighted sum is shown; each step chooses the weights"""
    bend: bool = True
    """bend the arm's picture besides shifting, scaling and shearing it"""
    motion_start: bool = False
    """before the training, let the arm's picture follow what moves in the training clips, where the
    condition has positions (`labkit.training.arm_start`)"""
    picture_start: bool = False
    """with motion_start: also paint the arm's picture, before the training, with what moves"""
    arm_light: bool = True
    """adapt the colours of the arm's picture to the light of the clip"""
    first_frame: bool = True
    """take what the arm hides in the last context frame from the first context frame"""
    ground: bool = True
    """paint the ground that the arm hides in both of these frames"""
    table_light: bool = True
    """change the light of the table at every step: the arm throws a shadow"""
    table_width: Annotated[int, Between(1, 256)] = 16
    """channels, at half of the frame's side, of the network that composes the table"""
    pusher: bool = False
    """move parts of the table along with the arm, where the condition has positions
    (`labkit.model.pusher`). It learns what is moved from steps between true frames: data.n_past
    must be 2 or more"""
    pusher_width: Annotated[int, Between(1, 256)] = 16
    """channels, at the whole and at half of the frame's side, of the network that says what is
    moved"""
    place_size: Annotated[int, Between(1, 256)] = 16
    """numbers made from the predicted encoding g_t that help to place the arm, where the condition
    has no positions"""


@dataclass(frozen=True)
class ModelConfig(Checked):
    """The shape of VideoCVAE."""

    backbone: Literal["dcgan64", "vgg64"] = "dcgan64"
    """convolutional encoder and decoder, named as in SVG (Denton & Fergus 2018)"""
    frame_size: Annotated[int, Between(32, 128)] = 64
    """height and width of the frames in pixels, a multiple of 16"""
    width: Annotated[int, Between(4, 512)] = 64
    """channels of the backbone's first stage; each further stage doubles them, up to 8 x"""
    norm: Literal["batch", "group"] = "batch"
    """normalisation in the backbone. Batch statistics differ between training and a
    free-running rollout; group statistics (Wu & He 2018) do not"""
    encoding_size: Annotated[int, Between(1, 4096)] = 128
    """size of an encoding h_t and of a predicted encoding g_t (the course's g_dim)"""
    latent_size: Annotated[int, Between(1, 4096)] = 64
    """size of the latent z_t (the course's z_dim)"""
    hidden_size: Annotated[int, Between(1, 4096)] = 256
    """hidden units of every LSTM (the course's rnn_size)"""
    predictor: Literal["lstm", "convlstm"] = "lstm"
    """the frame predictor LSTM_theta: over vectors, or over feature maps of an eighth of the
    frame's side (ConvLSTM, Shi et al. 2015)"""
    map_size: Annotated[int, Between(1, 1024)] = 64
    """hidden channels of a ConvLSTM"""
    predictor_layers: Annotated[int, Between(1, 8)] = 2
    """layers of the frame predictor LSTM_theta"""
    posterior_layers: Annotated[int, Between(1, 8)] = 1
    """layers of the posterior LSTM_phi and of the prior LSTM_psi"""
    predictor_norm: Literal["none", "batch", "group"] = "batch"
    """norm between an LSTM predictor's last linear layer and its tanh: batch in the course's
    sample code, none in SVG"""
    prior: Literal["fixed", "learned"] = "fixed"
    """p(z_t): N(0, I), or p_psi(z_t | x_{0:t-1}, c) of an LSTM_psi of its own (SVG-LP)"""
    prior_condition: bool = True
    """let a learned prior see the condition; the course's learned priors see the encodings alone"""
    posterior_log_variance_start: Annotated[float, Between(-20.0, 2.0)] = 0.0
    """log sigma^2 of the posterior before training. At 0, as in the reference, z_t starts as noise
    of the prior's size: the decoder learns to ignore it, and then the posterior gets no gradient.
    At -6, z_t starts with little noise, and the decoder can use it from the first update on; see
    also posterior_norm and kl.wait"""
    posterior_norm: Literal["none", "batch"] = "none"
    """norm of the posterior's mean. As long as the decoder cannot use z_t, its variation only
    disturbs, and training removes it; batch norm, without a learned scale, gives each unit mean 0
    and variance 1 over the batch, so that it stays (BN-VAE, Zhu et al. 2020)"""
    prior_log_variance_start: Annotated[float, Between(-20.0, 2.0)] = 0.0
    """the same of a learned prior"""
    latent_levels: Annotated[int, Between(1, 3)] = 1
    """1: the vector z_t alone; 2 and 3 add latent maps at an eighth and at a quarter of the
    frame's side, each conditioned on those above it (after HAF-SVG, Lin et al. 2020)"""
    level_size: Annotated[int, Between(1, 256)] = 2
    """channels of each latent map"""
    skip: Literal["last_context", "previous", "first", "svg", "random_context"] = "last_context"
    """which frame's encoder features the decoder sees through its skip connections: those of the
    last context frame (the course's default), of the frame just fed back (x_{t-1} or its
    prediction; SVG's last_frame_skip), of frame 0 (some public solutions), of the last frame but
    one of the context (SVG's own loop, which at 2 -> 10 is frame 0), or of a context frame drawn
    anew for each training rollout, and the last one otherwise (SRVP, Franceschi et al. 2020)"""
    align: bool = False
    """let the decoder move the skip features by a flow of its own before it joins them (the
    feature aligner of HAF-SVG)"""
    conditioning: Literal["input", "film", "conv"] = "input"
    """how the condition comes in: to the predictor's input alone, or besides to every block of
    the decoder, as a scale and shift from an embedding of it (FiLM, Perez et al. 2018) or as a
    conditional convolution (Choi et al. 2019)"""
    posterior_condition: bool = False
    """let the posterior see the condition, q(z_t | x_{1:t}, c), as the CVAE's equation says;
    the course's sample code leaves it out"""
    places: bool = False
    """add maps made from the condition to the decoder's maps at a quarter and at half of the
    frame's side: a small network of x, y and the condition, the same at every place (after the
    spatial broadcast decoder, Watters et al. 2019)"""
    output: Literal["sigmoid", "flow", "cdna", "layer", "scene"] = "sigmoid"
    """paint every pixel anew; or blend, under predicted masks, the previous frame moved by a
    dense flow or by a few learned kernels (CDNA, Finn et al. 2016), the last context frame and
    fresh pixels; layer: as flow, and besides a layer that is cut out of the last context frame and
    carried as a whole to where the condition says; scene: the table of the context frames in new
    light, over it a learned picture of the arm where the condition says, over both fresh pixels"""
    scene: SceneConfig = field(default_factory=SceneConfig)
    """parts of output=scene"""
    observation: Literal["fixed", "learned", "optimal"] = "fixed"
    """variance of p(x_t | z): fixed, so that the loss is the mean squared error (the course);
    or one number, learned, or the one that is best for each batch (sigma-VAE, Rybkin et al.
    2021), with which a KL weight of 1 is the ELBO itself"""
    condition_at: Literal["previous", "target"] = "previous"
    """the condition that leads from x_{t-1} to x_t: c_{t-1}, or c_t, which some public
    solutions use and which tells where the arm has arrived"""
    normalise_condition: bool = False
    """scale each condition column to mean 0 and deviation 1 over the training windows; the
    statistics are saved with the weights"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frame_size % 16:
            raise ConfigError(
                f"ModelConfig.frame_size is {self.frame_size}; it must be a multiple of 16"
            )

    @property
    def has_batch_norm(self) -> bool:
        """Whether any part of the model has; a ConvLSTM's output has no norm."""
        predictor_norm = self.predictor_norm if self.predictor == "lstm" else "none"
        return "batch" in (self.norm, predictor_norm, self.posterior_norm)


@dataclass(frozen=True)
class KLConfig(Checked):
    """The KL weight beta over training (`labkit.training.schedules.kl_weight`)."""

    schedule: Literal["constant", "monotonic", "cyclical"] = "cyclical"
    """constant at the maximum (the course's kl_anneal_type None: no annealing), one ramp from 0
    (Bowman et al. 2016), or one ramp a cycle (Fu et al. 2019)"""
    wait: Annotated[float, Between(0.0, 1.0)] = 0.0
    """share of the training, from its start, in which the weight is 0; the schedule takes the rest
    of the training"""
    max_weight: Annotated[float, Between(0.0, 1000.0)] = 1.0
    """the weight at the top of a ramp. The loss is mean squared error over pixels + weight x
    KL summed over latent dimensions, so even 1e-4 is a strong pull towards the prior"""
    cycles: Annotated[int, Between(1, 1000)] = 3
    """number of cycles in the whole training (the course's kl_anneal_cycle)"""
    cycle_start: Literal["exact", "epoch"] = "exact"
    """where a cycle begins that is not a whole number of epochs long. exact: within an epoch, so
    that the weight of the next epoch is a little above 0; epoch: with that next epoch, whose weight
    is exactly 0"""
    ratio: Annotated[float, Between(1.0, 1000.0)] = 2.0
    """a ramp takes 1/ratio of its cycle (the course's kl_anneal_ratio; R = 1/ratio in Fu et
    al.); the weight stays at its maximum for the rest"""
    shape: Literal["linear", "sigmoid", "cosine"] = "linear"
    """how a ramp climbs; all three pass through half of the maximum half way up"""
    free_bits: Annotated[float, Between(0.0, 1e6)] = 0.0
    """nats a step, on average over a batch, that cost nothing (Kingma et al. 2016)"""
    balance: Annotated[float, Between(0.0, 1.0)] = 0.0
    """KL balancing (Hafner et al. 2021): the share of the KL's gradient that moves the prior
    towards the posterior, the rest moving the posterior; 0.8 there. 0 switches it off, which
    gives both their whole gradient; it needs a prior that is learned"""
    hybrid: Annotated[float, Between(0.0, 1.0)] = 0.0
    """share of the clips of a batch, rounded to whole ones, that learn as they will predict: z_t
    from the prior after the context (the hybrid objective, Sohn et al. 2015)"""
    anneal_prior: bool = True
    """scale the gradient of a learned prior by the schedule too, as the KL term does. Off: it is
    fitted to the detached posterior at the full max_weight from the first update on, also while
    the weight is 0, and no gradient of it reaches the encoder (`labkit.training.objective`)"""


@dataclass(frozen=True)
class TeacherForcingConfig(Checked):
    """The probability that a batch is fed true frames instead of its own predictions."""

    start: Annotated[float, Between(0.0, 1.0)] = 1.0
    """ratio at epoch 0 (the course's tfr)"""
    decay_start: Annotated[int, Between(0, 1000000)] = 0
    """epoch at which the ratio begins to fall (the course's tfr_start_decay_epoch)"""
    decay_step: Annotated[float, Between(0.0, 1.0)] = 0.01
    """linear: how much the ratio falls each epoch (the course's tfr_decay_step)"""
    lower_bound: Annotated[float, Between(0.0, 1.0)] = 0.0
    """the ratio never falls below this (the course's tfr_lower_bound)"""
    schedule: Literal["constant", "linear", "exponential", "inverse_sigmoid"] = "linear"
    """how the ratio falls from its start (Bengio et al. 2015)"""
    decay_factor: Annotated[float, Between(0.0, 1.0)] = 0.98
    """exponential: what the ratio is multiplied by each epoch"""
    decay_constant: Annotated[float, Between(1.0, 1e6)] = 20.0
    """inverse sigmoid: k of k / (k + exp(i / k)), i epochs after its start; the ratio is halved
    k ln k epochs in, 60 for k = 20"""
    granularity: Literal["batch", "clip", "step"] = "batch"
    """what one toss decides: a whole batch (the course), one clip's rollout, or one step of one
    clip (Bengio et al. 2015)"""

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
    """number of epochs"""
    schedule_by: Literal["epoch", "update"] = "epoch"
    """when the KL weight and the teacher-forcing ratio move: once an epoch (the course), or at
    every update, as fractions of an epoch. Their settings count in epochs either way"""
    updates_per_epoch: Annotated[int, Between(1, 1000000)] = 600
    """weight updates an epoch (the course's epoch_size), whatever the data set's size"""
    batch_size: Annotated[int, Between(1, 100000)] = 12
    """windows in a batch"""
    arm_updates: Annotated[int, Between(0, 1000000)] = 0
    """updates, before the training, of the arm's picture alone: each learns 16 single frames over
    the median of their clips, in a hundredth of a second. For output=scene and a condition with
    positions (`labkit.training.separate_training`)"""
    pusher_updates: Annotated[int, Between(0, 1000000)] = 0
    """updates, before the training, of the pusher alone, where the model has a new one: each learns
    32 single steps from true frames, most of which push something"""
    growing_windows: Annotated[float, Between(0.0, 1.0)] = 0.0
    """fraction of the training in which the windows of a batch are cut into shorter ones: at first
    a single frame is predicted, then 2 and 4, and after that fraction all. Each window gives as
    many short ones as fit into it, so nearly all of its frames are used. A motion that depends on
    the one before it, such as that of a pushed object, is learned from a single step first"""
    learning_rate: Annotated[float, Between(0.0, 10.0)] = 0.002
    """Adam's learning rate, at its highest"""
    learning_rate_schedule: Literal["constant", "cosine", "step"] = "constant"
    """constant; a short linear warm-up and a cosine down to a floor; or a fall in steps. It is
    a function of the fraction of all updates that are done, and moves at every update"""
    learning_rate_warm_up: Annotated[float, Between(0.0, 1.0)] = 0.02
    """cosine: the fraction of all updates in which the rate climbs from a tenth"""
    learning_rate_floor: Annotated[float, Between(0.0, 1.0)] = 0.01
    """cosine: where the rate ends, as a fraction of its highest"""
    learning_rate_stages: Annotated[int, Between(1, 1000)] = 3
    """step: number of equal stages of the training, each with a lower rate than the last"""
    learning_rate_factor: Annotated[float, Between(0.0, 1.0)] = 0.1
    """step: what the rate is multiplied by from one stage to the next"""
    adam_beta1: Annotated[float, Between(0.0, 0.9999)] = 0.9
    """decay of Adam's mean of gradients"""
    gradient_clip: Annotated[float, Between(0.0, 1e9)] = 0.0
    """largest norm of the gradient; 0 switches clipping off"""
    ema_decay: Annotated[float, Between(0.0, 0.999999)] = 0.0
    """decay of the moving average of the weights that is evaluated and kept; 0 switches it
    off"""
    weight_decay: Annotated[float, Between(0.0, 10.0)] = 0.0
    """decoupled weight decay (AdamW, Loshchilov & Hutter 2019); 0 is Adam"""
    accumulation_steps: Annotated[int, Between(1, 10000)] = 1
    """parts that a batch is cut into, one after the other in memory; their gradients are averaged,
    which with group norm is the gradient of the whole batch. What is taken over the batch itself
    is then taken over a part: the statistics of batch norm, the variance of
    model.observation=optimal, and the mean that kl.free_bits bounds"""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """of the convolutions: auto is bf16 on a GPU that has it and on a CPU with AMX or AVX-512
    bf16. LSTMs, latents, KL, sigma and losses are fp32 in any case, and so is validation"""
    channels_last: bool = True
    """order of the convolutions' memory, as a GPU's kernels and bf16 want it; in fp32 on a CPU it
    makes little difference"""
    fused_optimizer: bool = True
    """update all weights by one kernel, on CPUs and Nvidia GPUs"""
    compile: Literal["auto", "on", "off"] = "auto"
    """compile encoder and decoder by torch.compile: auto does so on an Nvidia GPU"""
    cuda_graphs: Literal["auto", "on", "off"] = "auto"
    """replay what is compiled as CUDA graphs, which spares the many launches of free-running
    steps: auto does so in a single process"""
    data_on_device: Literal["auto", "on", "off"] = "auto"
    """keep the training clips in the GPU's memory: auto does so where they take at most half of
    what is free; otherwise they are read ahead"""
    loader_workers: Annotated[int, Between(-1, 256)] = -1
    """processes that read ahead; -1 is up to 4 for a GPU, and none otherwise"""
    checkpoint_every: Annotated[int, Between(0, 1000000)] = 0
    """updates between two checkpoints within an epoch; 0: none but by the clock. Each epoch ends
    with one"""
    checkpoint_minutes: Annotated[float, Between(0.0, 100000.0)] = 10.0
    """minutes between two checkpoints within an epoch; 0: none by the clock"""
    validation_clips: Annotated[int, Between(1, 1000000)] = 256
    """clips of the validation split predicted after an epoch, to choose the best weights"""
    validate_every: Annotated[int, Between(1, 1000000)] = 1
    """epochs between two validations; the last epoch is always validated"""
    keep: Literal["best", "last"] = "best"
    """which validated weights are kept for use: those whose predictions have the highest PSNR, or
    the last. PSNR of one sample prefers a blurred mean of all futures to one of them, so it
    prefers the weights from before z came into use"""


MACHINE_FIELDS = (
    "precision",
    "channels_last",
    "fused_optimizer",
    "compile",
    "cuda_graphs",
    "data_on_device",
    "loader_workers",
    "checkpoint_every",
    "checkpoint_minutes",
)
"""Fields of `training` that suit a run to its machine, and may change from one resume to the
next."""


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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kl.balance and self.model.prior == "fixed" and self.model.latent_levels == 1:
            raise ConfigError(
                f"kl.balance is {self.kl.balance}, but model.prior is fixed",
                hint="set model.prior=learned, or kl.balance=0",
            )
        if not self.kl.anneal_prior and self.model.prior == "fixed":
            raise ConfigError(
                "kl.anneal_prior is off, but model.prior is fixed",
                hint="set model.prior=learned, or kl.anneal_prior=true",
            )
        if self.data.condition == "none" and self.model.conditioning != "input":
            raise ConfigError(
                f"model.conditioning is {self.model.conditioning}, but data.condition is none",
                hint="set model.conditioning=input, or another data.condition",
            )

        if self.training.batch_size == 1 and self.model.has_batch_norm:
            raise ConfigError(
                "training.batch_size is 1, and batch norm has no statistics of a single encoding",
                hint="set training.batch_size=2 or more, or model.norm=group, "
                "model.predictor_norm=none and model.posterior_norm=none",
            )

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
        if not file.exists():
            raise ConfigError("no such file", file=file)
        try:
            with reading(file, "not a readable config", error=ConfigError):
                return from_dict(json.loads(file.read_text(encoding="utf-8")))
        except ConfigError as error:
            if error.file is not None:
                raise
            raise ConfigError(error.what, file=file, hint=error.hint) from None


def from_dict(values: dict[str, Any]) -> Config:
    """A config from nested dictionaries; fields left out keep their defaults. The course's names
    are understood too (`labkit.course_names`).

    Raises:
        ConfigError: an unknown field (with the nearest known one), one given twice, or a value
            out of range.
    """
    return build(Config, in_lab_names(values) if isinstance(values, dict) else values, "config")
