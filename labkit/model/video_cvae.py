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

from labkit.model.backbones import Skips, drawn_skip_frame, skip_frame
from labkit.model.checks import (
    check_context,
    check_noise,
    check_plan,
    check_rollout,
    check_samples,
    check_step,
)
from labkit.model.gaussian import concatenate
from labkit.model.parts import Networks
from labkit.model.state import LSTMStates, Rollout, RolloutState
from labkit.model.step import (
    RecurrentInputs,
    StepInputs,
    StepOutputs,
    advance,
    encode,
    infer,
    level_targets,
    recur,
    recurrent_features,
    reference_frames,
)


class VideoCVAE(Networks):
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
        z_from_prior: Bool[Tensor, " B"] | None = None,
        prior_detached: bool = False,
        check_values: bool = True,
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
            z_from_prior: clips whose z_t come from the prior after the context, as in a
                prediction (the hybrid objective of Sohn et al. 2015); None is none of them.
                Posterior and prior are computed all the same, and `Rollout.z_from_prior` says at
                which steps the posterior was not used.
            prior_detached: let no gradient of a learned prior reach the encodings that it reads.
            check_values: False checks the shapes of frames and condition and not their values: to
                read values is to wait for a GPU.
        Raises:
            ShapeError: frames, condition, noise or the flags do not fit the model.
        """
        sizes, horizon = self.input_sizes, frames.shape[1] - n_past
        check_rollout(sizes, frames, condition, n_past, horizon, check_values)
        steps = self.condition_inputs.of_steps(condition, frames.shape[1])  # (B, S, C)
        check_plan(teacher_forced, z_from_prior, steps)
        check_noise(sizes, noise, steps)
        fed_true = torch.as_tensor(teacher_forced).expand(steps.shape[:2]).clone()
        fed_true[:, :n_past] = True
        if z_from_prior is not None:
            # Steps within the context take z from the posterior in a prediction too.
            predicts = torch.arange(1, steps.shape[1] + 1, device=frames.device) >= n_past
            z_from_prior = z_from_prior.to(frames.device)[:, None] & predicts  # (B, S)
        context = self.condition_inputs.normalise(condition[:, :n_past])
        noise = self._noise(steps, generator) if noise is None else noise
        drawn = self.config.skip == "random_context" and self.training
        outputs = self._unroll(
            frames,
            steps,
            change=self.condition_inputs.changes(context, steps, n_past),
            fed_true=fed_true.cpu(),
            noise=noise,
            n_past=n_past,
            skip_from=drawn_skip_frame(n_past, generator)
            if drawn
            else skip_frame(self.config, n_past),
            z_from_prior=z_from_prior,
            prior_detached=prior_detached,
        )
        assert outputs.posterior is not None
        assert outputs.prior is not None
        return Rollout(
            outputs.frames,
            outputs.posterior,
            outputs.prior,
            self.log_variance,
            z_from_prior,
            outputs.push,
        )

    def reconstruct(
        self,
        frames: Float[Tensor, "B T 3 S S"],
        condition: Float[Tensor, "B T2 C"],
        n_past: int,
        *,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Float[Tensor, "B horizon 3 S S"]:
        """Free-running, but with z_t from the posterior, which has seen x_t (the course's
        `pred_rec`). It shows how much z can carry. It is not a prediction.

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
        """The frames after the context, free-running: each is made from the one predicted before
        it (the course's `pred_norm`). No future frame can leak in, because none is an argument.

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
        check_rollout(self.input_sizes, context, condition, n_past, horizon)
        check_samples(samples)
        steps = self.condition_inputs.of_steps(condition, n_past + horizon)  # (B, S, C)
        steps = steps if samples is None else steps.repeat_interleave(samples, dim=0)
        check_noise(self.input_sizes, noise, steps)
        if noise is None:
            noise = self._noise(steps, generator if sample else None, zero=not sample)
        state = self._start(context, condition, steps, noise, samples or 1)
        frames = []
        for t in range(n_past - 1, n_past + horizon - 1):
            frame, state = self._step(state, steps[:, t : t + 1], noise[:, t : t + 1])
            frames.append(frame)
        predicted = torch.stack(frames, dim=1)  # (B * samples, horizon, 3, S, S)
        return predicted if samples is None else predicted.unflatten(0, (-1, samples))

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
        check_context(self.input_sizes, context, condition)
        steps = self.condition_inputs.of_steps(condition, context.shape[1])
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
            state: of `begin`, or of the step before; nothing in it is changed.
            condition: that leads to the new frame: of the frame before it, or its own with
                `condition_at="target"`.
            generator, sample: of the draw of z, as in `predict`.
        Raises:
            ShapeError: the condition does not fit the model or the state.
        """
        check_step(self.input_sizes, len(state.frame), condition)
        steps = self.condition_inputs.normalise(condition)[:, None]  # (B, 1, C)
        return self._step(state, steps, self._noise(steps, generator, zero=not sample))

    # ----------------------------------------------------------------------- what they share

    def _noise(
        self, steps: Float[Tensor, "B S C"], generator: torch.Generator | None, zero: bool = False
    ) -> Float[Tensor, "B S z"]:
        """epsilon of every draw of a rollout, all at once."""
        noise = steps.new_zeros(*steps.shape[:2], sum(self.latent_sizes))
        return noise if zero else noise.normal_(generator=generator)

    def _start(
        self,
        context: Float[Tensor, "B n_past 3 S S"],
        condition: Float[Tensor, "B T C"],
        steps: Float[Tensor, "N _ C"],
        noise: Float[Tensor, "N _ z"],
        samples: int,
    ) -> RolloutState:
        """The state after the context, `samples` times a clip: N = B * samples."""
        n_past, inputs = context.shape[1], self.condition_inputs
        encoded = encode(self, context)
        source = skip_frame(self.config, n_past)
        own = self.config.skip == "previous"
        skips = [] if own else self.decoder.prepare(encoded[source : source + 1].maps)
        last = encoded[n_past - 1 :]
        reference = reference_frames(self, context[:, -1:], last, context[:, :1])[:, 0]
        origin = inputs.origin_at(inputs.normalise(condition[:, n_past - 1 : n_past]))
        before = steps[::samples, n_past - 2 : n_past - 1] if n_past > 1 else None
        state = RolloutState(context[:, -1], last, reference, skips, LSTMStates(), origin, before)
        state = state.repeat(samples)
        if n_past == 1:
            return state
        # The steps within the context only bring the LSTMs up to date: nothing is decoded.
        inner = slice(0, n_past - 1)
        features = recurrent_features(self, encoded).repeat(samples)
        _, _, _, states = recur(
            self,
            RecurrentInputs(
                features=features[inner],
                condition=steps[:, inner],
                noise=noise[:, inner],
                posterior=infer(self, features.h[:, 1:], steps[:, inner]),
            ),
        )
        return dataclasses.replace(state, states=states)

    def _step(
        self, state: RolloutState, steps: Float[Tensor, "B 1 C"], noise: Float[Tensor, "B 1 z"]
    ) -> tuple[Float[Tensor, "B 3 S S"], RolloutState]:
        """One free-running step, with z from the prior."""
        frames = state.frame[:, None]  # (B, 1, 3, S, S)
        features = state.features or encode(self, frames)
        maps = state.skips or self.decoder.prepare(features.maps)
        change, origin = self.condition_inputs.change(steps, state.condition_origin)
        outputs = advance(
            self,
            StepInputs(
                frames=frames,
                features=features,
                skips=Skips(maps, [0]),
                reference_frame=state.reference_frame[:, None],
                condition=steps,
                change=change,
                condition_before=state.condition_before,
                noise=noise,
                states=state.states,
            ),
        )
        frame, reference = outputs.frames[:, 0], outputs.reference_frame
        following = RolloutState(
            frame, None, reference, state.skips, outputs.states, origin, condition_before=steps
        )
        return frame, following

    def _unroll(
        self,
        frames: Float[Tensor, "B T 3 H W"],
        steps: Float[Tensor, "B S C"],
        *,
        change: Float[Tensor, "B S _"],
        fed_true: Bool[Tensor, "B S"],
        noise: Float[Tensor, "B S _"],
        n_past: int,
        skip_from: int,
        z_from_prior: Bool[Tensor, "B S"] | None,
        prior_detached: bool,
    ) -> StepOutputs:
        """Predicts x_1 .. x_S: step t is fed the true x_{t-1} or its own last prediction.
        `fed_true` stays on the CPU, where it is read."""
        encoded = encode(self, frames)
        q = infer(self, encoded.h[:, 1:], steps)
        targets = [each[:, 1:] for each in level_targets(self, encoded)]
        own = self.config.skip == "previous"
        context_skips = [] if own else self.decoder.prepare(encoded[:n_past].maps)
        references = reference_frames(self, frames[:, :n_past], encoded[:n_past], frames[:, :1])
        n_steps, all_true = steps.shape[1], fed_true.all(dim=0).tolist()
        # The first steps, which are all fed true frames, go in one call: none waits for another.
        lead = all_true.index(False) if False in all_true else n_steps
        if self.output.carries:
            lead = min(lead, n_past)  # the steps after the context wait for what was pushed
        before = torch.cat([steps[:, :1], steps[:, :-1]], dim=1)
        outputs: list[StepOutputs] = []
        states, stop = LSTMStates(), 0
        while stop < n_steps:
            start, stop = stop, max(lead, stop + 1)
            part = slice(start, stop)
            last_known = [min(t, n_past - 1) for t in range(start, stop)]
            reference = references[:, last_known]
            if self.output.carries and start >= n_past:
                reference = outputs[-1].reference_frame[:, None]
            if all_true[start]:
                fed, features = frames[:, part], encoded[part]
            else:
                mask = fed_true[:, part, None, None, None].to(frames.device, non_blocking=True)
                last = outputs[-1].frames[:, -1:]
                fed = torch.where(mask, frames[:, part], last) if fed_true[:, part].any() else last
                features = encode(self, fed)
            if own:
                skips = Skips(self.decoder.prepare(features.maps), range(stop - start))
            else:
                # No step uses features of a context frame later than the frame it is fed.
                skips = Skips(context_skips, [min(t, skip_from) for t in range(start, stop)])
            outputs.append(
                advance(
                    self,
                    StepInputs(
                        frames=fed,
                        features=features,
                        skips=skips,
                        reference_frame=reference,
                        condition=steps[:, part],
                        condition_before=before[:, part],
                        change=change[:, part],
                        noise=noise[:, part],
                        posterior=q[:, part],
                        targets=[each[:, part] for each in targets],
                        z_from_prior=None if z_from_prior is None else z_from_prior[:, part],
                        prior_detached=prior_detached,
                        states=states,
                    ),
                )
            )
            states = outputs[-1].states
        return StepOutputs(
            torch.cat([each.frames for each in outputs], dim=1),
            concatenate([each.posterior for each in outputs if each.posterior], 1),
            concatenate([each.prior for each in outputs if each.prior], 1),
            states,
            outputs[-1].reference_frame,
            # Of the first steps alone: each of them begins at a true frame.
            outputs[0].push,
        )
