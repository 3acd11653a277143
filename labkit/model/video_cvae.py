"""VideoCVAE: a conditional variational autoencoder over frames, with LSTMs over time.

The family of SVG (Denton & Fergus 2018) with the robot's condition c. For t = 1 .. T-1:

    h_{t-1}  = Enc(x_{t-1})                    x_{t-1}: true in the context, else as rolled out
    z_t      ~ q_phi(z_t | x_{1:t}, c)         while learning and in reconstructions
             ~ p_psi(z_t | x_{0:t-1}, c)       in predictions; N(0, I) where the prior is fixed
    g_t      = LSTM_theta(h_{t-1}, c_{t-1}, z_t)
    x^_t     = Dec(g_t, skips)
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from labkit.model.backbones import Skips
from labkit.model.checks import (
    check_context,
    check_noise,
    check_plan,
    check_rollout,
    check_samples,
    check_step,
)
from labkit.model.gaussian import Gaussian, joined
from labkit.model.parts import Core
from labkit.model.state import Memory, Rollout, RolloutState


class VideoCVAE(Core):
    """The model. Frames are float in [0, 1], (B, T, 3, S, S); conditions (B, T, C)."""

    # ------------------------------------------------------------------- the three rollouts

    def rollout(
        self,
        frames: Float[Tensor, "B T 3 S S"],
        condition: Float[Tensor, "B T2 C"],
        n_past: int,
        *,
        teacher_forced: bool | Bool[Tensor, "B T-1"],
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        blind: Bool[Tensor, " B"] | None = None,
        trusted: bool = False,
    ) -> Rollout:
        """The training rollout: z_t from the posterior of the target at every step.

        Teacher forcing decides one thing only, which frame is fed back after the context: the
        true x_{t-1}, or the model's own prediction of it. The posterior is learned either way.

        Args:
            frames: x_0 .. x_{T-1}.
            condition: of each frame.
            n_past: number of context frames, which are fed as they are in any case.
            teacher_forced: for all steps, or for each step t = 1 .. T-1 of each clip.
            generator: of the draws of z.
            noise: epsilon of the draws, (B, T-1, sum of `latent_sizes`), instead.
            blind: clips whose z_t come from the prior after the context, as they will in
                predictions (the hybrid objective of Sohn et al. 2015); None is none of them.
                Posterior and prior are told of them as of the others, and `Rollout.blind` says
                which steps these are: there the posterior was not used.
            trusted: look at no values of frames and condition, only at their shapes: to see them
                is to wait for a GPU.
        Raises:
            ShapeError: frames, condition, noise or the flags do not fit the model.
        """
        check_rollout(self, frames, condition, n_past, frames.shape[1] - n_past, not trusted)
        steps = self._conditions(condition, frames.shape[1])
        check_plan(teacher_forced, blind, steps)
        fed = torch.as_tensor(teacher_forced).expand(steps.shape[:2]).clone()
        fed[:, :n_past] = True
        check_noise(self, noise, steps)
        unseen = None if blind is None else _after_context(blind.to(frames.device), steps, n_past)
        made, q, p = self._unroll(
            frames,
            steps,
            self._changes(self._scaled(condition[:, :n_past]), steps, n_past),
            fed.cpu(),
            self._noise(steps, generator) if noise is None else noise,
            n_past,
            self._training_source(n_past, generator),
            unseen,
        )
        return Rollout(made, q, p, self.log_variance, unseen)

    def reconstruct(
        self,
        frames: Float[Tensor, "B T 3 S S"],
        condition: Float[Tensor, "B T2 C"],
        n_past: int,
        *,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Float[Tensor, "B horizon 3 S S"]:
        """Free-running, but with z_t from the posterior, which has seen x_t: an upper reference
        for what z can carry, never a prediction.

        Raises:
            ShapeError: frames, condition or noise do not fit the model.
        """
        rollout = self.rollout(
            frames, condition, n_past, teacher_forced=False, generator=generator, noise=noise
        )
        return rollout.frames[:, n_past - 1 :]

    def predict(
        self,
        context: Float[Tensor, "B n_past 3 S S"],
        condition: Float[Tensor, "B T C"],
        horizon: int,
        *,
        generator: torch.Generator | None = None,
        sample: bool = True,
        samples: int | None = None,
        noise: Tensor | None = None,
    ) -> Float[Tensor, "B *samples_and_horizon 3 S S"]:
        """The frames after the context, free-running: each is made from the one predicted
        before it. No future frame can leak in, for none is an argument.

        Within the context, whose frames are known, z_t comes from the posterior; after it from
        the prior.

        Args:
            context: x_0 .. x_{n_past-1}.
            condition: conditions of the context and of the horizon; later rows are not read.
            horizon: number of frames to predict.
            generator: of the draws of z.
            sample: False takes each Gaussian's mean (z = 0 after the context, where the prior is
                fixed) instead.
            samples: how many futures of each clip, predicted as one batch.
            noise: epsilon of the draws, instead of a generator: (B * samples, n_past + horizon - 1,
                sum of `latent_sizes`), the samples of a clip in a row.
        Returns:
            (B, horizon, 3, S, S), or (B, samples, horizon, 3, S, S) where `samples` is given.
        Raises:
            ShapeError: frames, condition or noise do not fit the model.
        """
        n_past = context.shape[1]
        check_rollout(self, context, condition, n_past, horizon)
        check_samples(samples)
        steps = self._conditions(condition, n_past + horizon)
        steps = steps if samples is None else steps.repeat_interleave(samples, dim=0)
        check_noise(self, noise, steps)
        if noise is None:
            noise = self._noise(steps, generator if sample else None, zero=not sample)
        state = self._start(context, condition, steps, noise, samples or 1)
        frames = []
        for t in range(n_past - 1, n_past + horizon - 1):
            frame, state = self._step(state, steps[:, t : t + 1], noise[:, t : t + 1])
            frames.append(frame)
        made = torch.stack(frames, dim=1)
        return made if samples is None else made.unflatten(0, (-1, samples))

    # -------------------------------------------------------------------- one step at a time

    def begin(
        self,
        context: Float[Tensor, "B n_past 3 S S"],
        condition: Float[Tensor, "B T C"],
        *,
        generator: torch.Generator | None = None,
        sample: bool = True,
    ) -> RolloutState:
        """The state after the context, from which `step` predicts.

        Args:
            context: x_0 .. x_{n_past-1}.
            condition: of the context frames; later rows are not read, and the last frame's only
                with `condition_at="target"`.
            generator, sample: of the draws of z, as in `predict`.
        Raises:
            ShapeError: frames or condition do not fit the model.
        """
        check_context(self, context, condition)
        steps = self._conditions(condition, context.shape[1])
        noise = self._noise(steps, generator, zero=not sample)
        return self._start(context, condition, steps, noise, 1)

    def step(
        self,
        state: RolloutState,
        condition: Float[Tensor, "B C"],
        *,
        generator: torch.Generator | None = None,
        sample: bool = True,
    ) -> tuple[Float[Tensor, "B 3 S S"], RolloutState]:
        """Predicts the next frame, and the state after it.

        Args:
            state: of `begin`, or of the step before; it stays as it is.
            condition: that leads to the new frame: of the frame before it, or its own with
                `condition_at="target"`.
            generator, sample: of the draw of z, as in `predict`.
        Raises:
            ShapeError: the condition does not fit the model or the state.
        """
        check_step(self, state, condition)
        steps = self._scaled(condition)[:, None]
        return self._step(state, steps, self._noise(steps, generator, zero=not sample))

    def _start(
        self,
        context: Float[Tensor, "B n_past 3 S S"],
        condition: Float[Tensor, "B T C"],
        steps: Float[Tensor, "N _ C"],
        noise: Float[Tensor, "N _ z"],
        samples: int,
    ) -> RolloutState:
        """The state after the context, `samples` times a clip: N = B * samples."""
        n_past = context.shape[1]
        encoded = self._encode(context)
        source = self._source(n_past)
        own = self.config.skip == "previous"
        skips = [] if own else self.decoder.prepare(encoded[source : source + 1].maps)
        latest = encoded[n_past - 1 :]
        anchor = self._anchors(context[:, -1:], latest)[:, 0]
        since = self._since(self._scaled(condition[:, n_past - 1 : n_past]))
        state = RolloutState(context[:, -1], latest, anchor, skips, Memory(), since)
        state = state.repeat(samples)
        if n_past == 1:
            return state
        # Of the steps within the context only the recurrent state is of use: nothing is decoded.
        inner = slice(0, n_past - 1)
        earlier = self._drop_unused(encoded).repeat(samples)
        q = self._infer(earlier.h[:, 1:], steps[:, inner])
        _, _, memory = self._recur(earlier[inner], steps[:, inner], noise[:, inner], q, Memory())
        return dataclasses.replace(state, memory=memory)

    def _step(
        self, state: RolloutState, steps: Float[Tensor, "B 1 C"], noise: Float[Tensor, "B 1 z"]
    ) -> tuple[Float[Tensor, "B 3 S S"], RolloutState]:
        features = state.features or self._encode(state.frame[:, None])
        maps = state.skips or self.decoder.prepare(features.maps)
        change, since = self._change(steps, state.since)
        frames, _, _, memory = self._advance(
            state.frame[:, None],
            features,
            Skips(maps, [0]),
            state.anchor[:, None],
            change,
            steps,
            noise,
            None,
            None,
            state.memory,
        )
        frame = frames[:, 0]
        return frame, RolloutState(frame, None, state.anchor, state.skips, memory, since)

    def _unroll(
        self,
        frames: Float[Tensor, "B T 3 H W"],
        steps: Float[Tensor, "B S C"],
        change: Float[Tensor, "B S C"],
        fed_true: Bool[Tensor, "B S"],
        noise: Float[Tensor, "B S _"],
        n_past: int,
        source: int,
        blind: Bool[Tensor, "B S"] | None,
    ) -> tuple[Float[Tensor, "B S 3 H W"], Gaussian, Gaussian]:
        """Predicts x_1 .. x_S: step t is fed the true x_{t-1} or its own last prediction. The plan
        `fed_true` stays on the CPU, where it is read."""
        encoded = self._encode(frames)
        q = self._infer(encoded.h[:, 1:], steps)
        targets = [each[:, 1:] for each in self._level_maps(encoded)]
        own = self.config.skip == "previous"
        fixed = [] if own else self.decoder.prepare(encoded[:n_past].maps)
        kept = self._anchors(frames[:, :n_past], encoded[slice(n_past)])
        n_steps, all_true = steps.shape[1], fed_true.all(dim=0).tolist()
        # Steps whose input is known need not wait for one another: all in one call.
        lead = all_true.index(False) if False in all_true else n_steps
        made, memory, stop = [], Memory(), 0
        while stop < n_steps:
            start, stop = stop, max(lead, stop + 1)
            part = slice(start, stop)
            if all_true[start]:
                fed, features = frames[:, part], encoded[part]
            else:
                mask = fed_true[:, part, None, None, None].to(frames.device, non_blocking=True)
                last = made[-1][0][:, -1:]
                fed = torch.where(mask, frames[:, part], last) if fed_true[:, part].any() else last
                features = self._encode(fed)
            # No step may see features of a context frame that comes after the frame it is fed.
            seen = [min(t, source) for t in range(start, stop)]
            skips = (
                Skips(self.decoder.prepare(features.maps), range(stop - start))
                if own
                else Skips(fixed, seen)
            )
            known = [min(t, n_past - 1) for t in range(start, stop)]
            *result, memory = self._advance(
                fed,
                features,
                skips,
                kept[:, known],
                change[:, part],
                steps[:, part],
                noise[:, part],
                q[:, part],
                [each[:, part] for each in targets],
                memory,
                None if blind is None else blind[:, part],
            )
            made.append(result)
        predicted, posteriors, priors = zip(*made, strict=True)
        return torch.cat(predicted, dim=1), joined(posteriors, 1), joined(priors, 1)


def _after_context(
    blind: Bool[Tensor, " B"], steps: Float[Tensor, "B S C"], n_past: int
) -> Bool[Tensor, "B S"]:
    """Of these clips the steps that predict: those within the context know their targets."""
    number = torch.arange(1, steps.shape[1] + 1, device=blind.device)
    return blind[:, None] & (number >= n_past)
