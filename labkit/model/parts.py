"""Builds the networks of VideoCVAE as the config asks for them."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from labkit.config import CONDITION_SIZES, ModelConfig
from labkit.errors import ConfigError
from labkit.model.backbones import Decoder, Encoder
from labkit.model.checks import InputSizes
from labkit.model.condition import ConditionInputs
from labkit.model.layers import ConditionEmbedding
from labkit.model.output import Output, make_output
from labkit.model.recurrent import ConvLSTMPredictor, FramePredictor, GaussianLSTM
from labkit.model.scene import SceneOutput

FORMER_NAMES = {
    "cue.": "condition_embedding.",
    "predictor.told.": "predictor.embed_conditioning.",
    "output.from_told.": "output.from_conditioning.",
}
"""How names of weights began in earlier versions, and how they begin now."""


class Networks(nn.Module):
    """Encoder, posterior, prior, predictor, decoder and output."""

    condition_mean: Tensor
    condition_std: Tensor

    def __init__(
        self, config: ModelConfig, condition_size: int, position_size: int | None = None
    ) -> None:
        """
        Args:
            config: the model's shape.
            condition_size: C, the columns of the condition; 0 is a model without a condition.
            position_size: how many of them, the last ones, are the position of the robot. None:
                3 of BAIR's 7 columns, and none of any other number.
        Raises:
            ConfigError: the config asks for a condition, and there is none.
        """
        super().__init__()
        if config.conditioning != "input" and not condition_size:
            raise ConfigError(
                f"model.conditioning is {config.conditioning}, but there is no condition",
                hint="set model.conditioning=input, or another data.condition",
            )
        self.config = config
        self.condition_size = condition_size
        if position_size is None:
            bair = condition_size == CONDITION_SIZES["action+position"]
            position_size = condition_size - CONDITION_SIZES["action"] if bair else 0
        self.position_size = position_size
        side, vgg = config.frame_size // 8, config.backbone == "vgg64"
        vector = config.predictor == "lstm"
        g_size = config.encoding_size if vector else 4 * config.width * side**2
        stages = (1, 2, 4, 8)  # widths of the encoder's maps, in the backbone's
        self.output: Output
        if config.output == "scene":
            self.output = SceneOutput(
                config.scene,
                g_size,
                condition_size,
                change_size=self.change_size,
                has_positions=self.has_positions,
                latent_size=config.latent_size,
                frame_size=config.frame_size,
                half_size=not vgg,
            )
        else:
            self.output = make_output(
                config.output, g_size, condition_size, [n * config.width for n in stages]
            )
        self.encoder = Encoder(config)
        self.decoder = Decoder(
            config,
            self.output.in_channels,
            condition_size,
            change_size=self.change_size,
            half_size=self.output.half_size,
        )
        c_and_z = condition_size + config.latent_size
        self.predictor: FramePredictor | ConvLSTMPredictor
        if vector:
            self.predictor = FramePredictor(
                config.encoding_size + c_and_z,
                config.encoding_size,
                config.hidden_size,
                config.predictor_layers,
                config.predictor_norm,
            )
        else:
            self.predictor = ConvLSTMPredictor(
                (8 if vgg else 4) * config.width,
                c_and_z,
                4 * config.width,
                config.map_size,
                config.predictor_layers,
            )
        h_and_c = config.encoding_size + condition_size
        self.posterior = self._gaussian_lstm(
            h_and_c if config.posterior_condition else config.encoding_size,
            config.posterior_log_variance_start,
            config.posterior_norm,
        )
        learned = config.prior == "learned"
        prior_size = h_and_c if config.prior_condition else config.encoding_size
        self.prior = (
            self._gaussian_lstm(prior_size, config.prior_log_variance_start) if learned else None
        )
        self.condition_embedding = (
            None
            if config.conditioning == "input"
            else ConditionEmbedding(config.conditioning, condition_size)
        )
        # log sigma^2 of p(x_t | z), from an error of 0.1 in a value of [0, 1]
        self.log_variance = (
            nn.Parameter(torch.tensor(-4.6)) if config.observation == "learned" else None
        )
        # Saved with the weights: they mean nothing without the units they were trained in.
        self.register_buffer("condition_mean", torch.zeros(condition_size))
        self.register_buffer("condition_std", torch.ones(condition_size))
        self.register_load_state_dict_pre_hook(rename_former_weights)

    def _gaussian_lstm(
        self, input_size: int, log_variance_start: float, mean_norm: str = "none"
    ) -> GaussianLSTM:
        config = self.config
        return GaussianLSTM(
            input_size,
            config.latent_size,
            config.hidden_size,
            config.posterior_layers,
            log_variance_start,
            mean_norm,
        )

    def set_condition_statistics(self, mean: Float[Tensor, " C"], std: Float[Tensor, " C"]) -> None:
        """Takes the training data's mean and standard deviation of each condition column. A column
        that never changes is not scaled."""
        self.condition_mean.copy_(mean)
        self.condition_std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))

    @property
    def condition_inputs(self) -> ConditionInputs:
        """How conditions become what the networks read."""
        return ConditionInputs(
            mean=self.condition_mean,
            std=self.condition_std,
            normalised=self.config.normalise_condition,
            at_target=self.config.condition_at == "target",
            has_positions=self.has_positions,
            sums_all=self.config.output == "scene" and not self.has_positions,
        )

    @property
    def has_positions(self) -> bool:
        """Whether the condition ends with the position of the robot."""
        return self.position_size > 0

    @property
    def change_size(self) -> int:
        """Numbers in the change of a condition (`ConditionInputs.change`)."""
        twice = self.config.output == "scene" and not self.has_positions
        return (2 if twice else 1) * self.condition_size

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """Size of each level's latent: the vector's, then the maps' (channels x side x side)."""
        config = self.config
        sides = (config.frame_size // 8, config.frame_size // 4)[: config.latent_levels - 1]
        return (config.latent_size, *(config.level_size * side**2 for side in sides))

    @property
    def input_sizes(self) -> InputSizes:
        """What the model's inputs are checked against."""
        return InputSizes(
            frame=self.config.frame_size,
            condition=self.condition_size,
            noise=sum(self.latent_sizes),
            reads_last_condition=self.config.condition_at == "target",
            dtype=next(self.parameters()).dtype,
        )


def rename_former_weights(
    module: nn.Module, state: dict[str, Any], prefix: str, *_: object
) -> None:
    """A hook of `load_state_dict`: gives weights that an earlier version saved their names of
    today."""
    for name in list(state):
        for former, new in FORMER_NAMES.items():
            if name.startswith(prefix + former):
                state[prefix + new + name.removeprefix(prefix + former)] = state.pop(name)
