"""VideoCVAE: a conditional variational autoencoder over frames, with LSTMs over time.

The family of SVG (Denton & Fergus 2018) with the robot's condition c. For t = 1 .. T-1:

    h_{t-1}  = Enc(x_{t-1})                    x_{t-1}: true in the context, else as rolled out
    z_t      ~ q_phi(z_t | x_{1:t})            while learning and in reconstructions
             ~ p(z_t) = N(0, I)                in predictions
    g_t      = LSTM_theta(h_{t-1}, c_{t-1}, z_t)
    x^_t     = Dec(g_t, skips)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from labkit.config import ModelConfig
from labkit.errors import ShapeError
from labkit.model.backbones import FRAME_SIZE, Decoder, Encoder
from labkit.model.gaussian import Gaussian, standard_normal_like
from labkit.model.output import ComposedOutput, PaintedOutput
from labkit.model.recurrent import FramePredictor, GaussianLSTM, State

CUE_SIZE = 64
"""Size of the embedded condition that FiLM layers read."""


@dataclass(frozen=True)
class Rollout:
    """What a training rollout hands to the objective; index 0 along time is t = 1."""

    frames: Float[Tensor, "B S 3 H W"]
    """predictions of x_1 .. x_{T-1}, in [0, 1]"""
    posterior: Gaussian
    """q_phi(z_t | x_{1:t}), (B, S, z)"""
    prior: Gaussian
    """p(z_t), (B, S, z)"""


@dataclass(frozen=True)
class _Encoded:
    """Encodings and skip features of S frames of each clip."""

    h: Float[Tensor, "B S g"]
    skips: list[Tensor]  # each (B, S, channels, side, side), finest first

    def at(self, indices: list[int]) -> list[Tensor]:
        """The skip features of those frames, in that order."""
        return [skip[:, indices] for skip in self.skips]


class VideoCVAE(nn.Module):
    """The model. Frames are float in [0, 1], (B, T, 3, 64, 64); conditions (B, T, C)."""

    condition_mean: Tensor
    condition_std: Tensor

    def __init__(self, config: ModelConfig, condition_size: int) -> None:
        """
        Args:
            config: the model's shape.
            condition_size: C, the columns of the condition.
        """
        super().__init__()
        self.config = config
        self.condition_size = condition_size
        self.output = ComposedOutput() if config.output == "composed" else PaintedOutput()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config, self.output.in_channels, CUE_SIZE if config.film else 0)
        self.predictor = FramePredictor(
            config.encoding_size + condition_size + config.latent_size,
            config.encoding_size,
            config.hidden_size,
            config.predictor_layers,
            config.predictor_norm,
        )
        self.posterior = GaussianLSTM(
            config.encoding_size + (condition_size if config.posterior_condition else 0),
            config.latent_size,
            config.hidden_size,
            config.posterior_layers,
        )
        self.cue = (
            nn.Sequential(nn.Linear(condition_size, CUE_SIZE), nn.LeakyReLU(0.2))
            if config.film
            else None
        )
        # Part of the weights: a model means nothing without the units it was trained in.
        self.register_buffer("condition_mean", torch.zeros(condition_size))
        self.register_buffer("condition_std", torch.ones(condition_size))

    def set_condition_statistics(self, mean: Float[Tensor, " C"], std: Float[Tensor, " C"]) -> None:
        """Takes the training data's mean and deviation of each condition column. A column that
        never changes keeps its scale."""
        self.condition_mean.copy_(mean)
        self.condition_std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))

    # ------------------------------------------------------------------- the three rollouts

    def rollout(
        self,
        frames: Float[Tensor, "B T 3 H W"],
        condition: Float[Tensor, "B T C"],
        n_past: int,
        *,
        teacher_forced: bool,
        generator: torch.Generator | None = None,
    ) -> Rollout:
        """The training rollout: z_t from the posterior of the target at every step.

        Teacher forcing decides one thing only, which frame is fed back after the context: the
        true x_{t-1}, or the model's own prediction of it. The posterior is learned either way.

        Raises:
            ShapeError: frames or condition do not fit the model.
        """
        self._check(frames, condition, n_past, frames.shape[1] - n_past)
        steps = self._conditions(condition, frames.shape[1])
        encoded = self._encode(frames)
        posterior = self._infer(encoded.h[:, 1:], steps)
        known = frames.shape[1] - 1 if teacher_forced else n_past
        predicted = self._unroll(
            frames[:, :known], encoded, steps, posterior.sample(generator), n_past
        )
        return Rollout(predicted, posterior, standard_normal_like(posterior))

    def reconstruct(
        self,
        frames: Float[Tensor, "B T 3 H W"],
        condition: Float[Tensor, "B T C"],
        n_past: int,
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "B horizon 3 H W"]:
        """Free-running, but with z_t from the posterior, which has seen x_t: an upper reference
        for what z can carry, never a prediction.

        Raises:
            ShapeError: frames or condition do not fit the model.
        """
        rollout = self.rollout(frames, condition, n_past, teacher_forced=False, generator=generator)
        return rollout.frames[:, n_past - 1 :]

    def predict(
        self,
        context: Float[Tensor, "B n_past 3 H W"],
        condition: Float[Tensor, "B T C"],
        horizon: int,
        *,
        generator: torch.Generator | None = None,
        sample: bool = True,
    ) -> Float[Tensor, "B {horizon} 3 H W"]:
        """The frames after the context, free-running: each is made from the one predicted
        before it. No future frame can leak in, for none is an argument.

        Within the context, whose frames are known, z_t comes from the posterior; after it from
        the prior.

        Args:
            context: x_0 .. x_{n_past-1}.
            condition: conditions of the context and of the horizon; later rows are not read.
            horizon: number of frames to predict.
            generator: of the draws of z.
            sample: False takes each Gaussian's mean (z = 0 after the context) instead.
        Raises:
            ShapeError: frames or condition do not fit the model.
        """
        n_past = context.shape[1]
        self._check(context, condition, n_past, horizon)
        steps = self._conditions(condition, n_past + horizon)
        encoded = self._encode(context)
        posterior = self._infer(encoded.h[:, 1:], steps[:, : n_past - 1])
        shape = (context.shape[0], n_past + horizon - 1, self.config.latent_size)
        z = context.new_zeros(shape)
        if sample:
            z.normal_(generator=generator)
        z[:, : n_past - 1] = posterior.sample(generator) if sample else posterior.mean
        return self._unroll(context, encoded, steps, z, n_past)[:, n_past - 1 :]

    # ------------------------------------------------------------------------------ the parts

    def _conditions(
        self, condition: Float[Tensor, "B _ C"], n_frames: int
    ) -> Float[Tensor, "B {n_frames}-1 C"]:
        """The condition of each step t = 1 .. n_frames-1, in the model's units."""
        first = 0 if self.config.condition_at == "previous" else 1
        steps = condition[:, first : first + n_frames - 1]
        if self.config.normalise_condition:
            steps = (steps - self.condition_mean) / self.condition_std
        return steps

    def _encode(self, frames: Float[Tensor, "B S 3 H W"]) -> _Encoded:
        """Encodes S frames of each clip in one call, time folded into the batch."""
        clips = frames.shape[0]
        h, skips = self.encoder(rearrange(frames, "b s c h w -> (b s) c h w"))
        unfold = "(b s) ... -> b s ..."
        return _Encoded(
            rearrange(h, unfold, b=clips), [rearrange(skip, unfold, b=clips) for skip in skips]
        )

    def _infer(self, h: Float[Tensor, "B S g"], steps: Float[Tensor, "B _ C"]) -> Gaussian:
        """q_phi(z_t | x_{1:t}) of S steps from t = 1, (B, S, z)."""
        if h.shape[1] == 0:  # One context frame alone: there is no step before the horizon.
            empty = h.new_zeros(h.shape[0], 0, self.config.latent_size)
            return Gaussian(empty, empty)
        inputs = torch.cat([h, steps], dim=-1) if self.config.posterior_condition else h
        return self.posterior(inputs)[0]

    def _unroll(
        self,
        known: Float[Tensor, "B K 3 H W"],
        encoded: _Encoded,
        steps: Float[Tensor, "B S C"],
        z: Float[Tensor, "B S z"],
        n_past: int,
    ) -> Float[Tensor, "B S 3 H W"]:
        """Predicts x_1 .. x_S: step t is fed the known x_{t-1} while there is one, and after
        that its own last prediction.

        `encoded` covers the known frames at least; what it has of later ones is not read.
        """
        n_known, n_steps = known.shape[1], steps.shape[1]
        # Steps whose input is known need not wait for one another: all in one call.
        anchors = [min(t, n_past - 1) for t in range(n_known)]
        sources = list(range(n_known)) if self.config.skip == "previous" else anchors
        predicted, state = self._advance(
            known,
            encoded.h[:, :n_known],
            encoded.at(sources),
            known[:, anchors],
            steps[:, :n_known],
            z[:, :n_known],
            None,
        )
        frames = [predicted]
        for t in range(n_known, n_steps):
            fed = frames[-1][:, -1:]
            last = self._encode(fed)
            skips = last.skips if self.config.skip == "previous" else encoded.at([n_past - 1])
            predicted, state = self._advance(
                fed,
                last.h,
                skips,
                known[:, n_past - 1 : n_past],
                steps[:, t : t + 1],
                z[:, t : t + 1],
                state,
            )
            frames.append(predicted)
        return torch.cat(frames, dim=1)

    def _advance(
        self,
        fed: Float[Tensor, "B S 3 H W"],
        h: Float[Tensor, "B S g"],
        skips: list[Tensor],
        anchor: Float[Tensor, "B S 3 H W"],
        steps: Float[Tensor, "B S C"],
        z: Float[Tensor, "B S z"],
        state: State | None,
    ) -> tuple[Float[Tensor, "B S 3 H W"], State]:
        """S steps whose inputs are all there: g_t = LSTM_theta(h, c, z), x^_t = Dec(g_t, skips)."""
        g, state = self.predictor(torch.cat([h, steps, z], dim=-1), state)
        cue = None if self.cue is None else self.cue(steps).flatten(0, 1)
        maps = self.decoder(g.flatten(0, 1), [skip.flatten(0, 1) for skip in skips], cue)
        frames = self.output(maps, fed.flatten(0, 1), anchor.flatten(0, 1))
        return rearrange(frames, "(b s) c h w -> b s c h w", b=fed.shape[0]), state

    def _check(self, frames: Tensor, condition: Tensor, n_past: int, horizon: int) -> None:
        """Says what is wrong with the arguments of a rollout, before anything is computed."""
        size = (3, FRAME_SIZE, FRAME_SIZE)
        if frames.ndim != 5 or tuple(frames.shape[2:]) != size:
            raise ShapeError(f"frames are {tuple(frames.shape)}; expected (B, T, 3, 64, 64)")
        if not frames.is_floating_point():
            raise ShapeError(f"frames are {frames.dtype}; expected floats in [0, 1]")
        if n_past < 1 or horizon < 1:
            raise ShapeError(
                f"n_past is {n_past} and the horizon {horizon}; both must be at least 1"
            )
        needed = n_past + horizon - (1 if self.config.condition_at == "previous" else 0)
        expected = f"(B, at least {needed}, {self.condition_size})"
        if (
            condition.ndim != 3
            or condition.shape[0] != frames.shape[0]
            or condition.shape[1] < needed
            or condition.shape[2] != self.condition_size
        ):
            raise ShapeError(f"the condition is {tuple(condition.shape)}; expected {expected}")
