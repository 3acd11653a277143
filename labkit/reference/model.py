"""The model's three rollouts as one loop, in the order of the equations of notebook 03.

For t = 1 .. T-1, with context frames x_0 .. x_{n_past-1}:

    h_{t-1} = Enc(x_{t-1})                     x_{t-1}: the true frame, or the last prediction
    z_t     ~ q_phi(z_t | x_{1:t})             posterior, which sees x_t
            ~ p(z_t)                           prior: N(0, I), or p_psi(z_t | x_{0:t-1}, c)
    g_t     = LSTM_theta(h_{t-1}, c_{t-1}, z_t)
    x^_t    = Dec(g_t, skip features)

| rollout | x_{t-1} after the context | z_t after the context | call |
| --- | --- | --- | --- |
| training | true frame or prediction | posterior | `unroll(...)`, `teacher_forced` as drawn |
| pred_rec | prediction | posterior | `unroll(...)` |
| pred_norm | prediction | prior | `unroll(..., z_from="prior")`, `frames`: the context alone |

The report that this lab started from has other names: `modules['frame_predictor']` is LSTM_theta,
`modules['posterior']` LSTM_phi, `encoder_output_past` h_{t-1}, `encoder_output_total[i][0]` h_t,
`lstm_input` (h_{t-1}, c_{t-1}, z_t), `reparameter(mu, logvar)` is `reparameterize`,
`use_teacher_forcing` is `teacher_forced`, `last_frame_skip` is the config's `skip="previous"`.

This page is for reading: it encodes one frame at a time. The engine, `labkit.model.video_cvae`,
computes the same in fewer and larger calls, and is tested against it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from labkit.errors import ConfigError
from labkit.model import Gaussian, VideoCVAE
from labkit.model.backbones import Skips, skip_frame


class Unrolled(NamedTuple):
    """What the loop returns; index 0 along time is t = 1."""

    frames: Float[Tensor, "B S 3 H W"]
    """x^_1 .. x^_{T-1}, in [0, 1]"""
    posteriors: list[Gaussian]
    """q_phi(z_t | x_{1:t}), (B, z), of each step that drew z from it"""
    priors: list[Gaussian]
    """p_psi(z_t | x_{0:t-1}, c), (B, z), of each step; empty where the prior is N(0, I)"""


def reparameterize(gaussian: Gaussian, noise: Float[Tensor, "B z"]) -> Float[Tensor, "B z"]:
    """A draw through which gradients pass (Kingma & Welling 2014)."""
    # z = mu + sigma * epsilon,  sigma = exp(log sigma^2 / 2)
    return gaussian.mean + (0.5 * gaussian.log_variance).exp() * noise


def unroll(
    model: VideoCVAE,
    frames: Float[Tensor, "B T 3 H W"],
    condition: Float[Tensor, "B T2 C"],
    n_past: int,
    noise: Float[Tensor, "B S z"],
    *,
    teacher_forced: bool = False,
    z_from: Literal["posterior", "prior"] = "posterior",
) -> Unrolled:
    """One of the three rollouts over S steps.

    Args:
        model: of the presets course, spec, report or svg.
        frames: x_0 .. x_S; with z from the prior the context alone is enough.
        condition: c_0 .. c_{S-1}, with the model's columns.
        n_past: number of context frames.
        noise: epsilon ~ N(0, I) of each step's draw.
        teacher_forced: feed the true frames after the context too.
        z_from: what z_t is drawn from after the context.
    Raises:
        ConfigError: the model has options that this page leaves out.
    """
    if (model.config.output, model.config.predictor) != ("sigmoid", "lstm"):
        raise ConfigError(
            "this model has parts that labkit/reference/model.py does not show",
            hint="take one of the presets course, spec, report or svg",
        )
    predicted, posteriors, priors = [], [], []
    theta = phi = psi = None  # states (h, c) of the LSTMs; None is zeros
    c = model.condition_inputs.of_steps(condition, noise.shape[1] + 1)  # (B, S, C)
    for t in range(1, noise.shape[1] + 1):
        # h_{t-1} = Enc(x_{t-1})
        known = teacher_forced or t <= n_past
        h, maps = model.encoder(frames[:, t - 1] if known else predicted[-1])  # h: (B, g)
        if model.config.skip == "previous" or t - 1 <= skip_frame(model.config, n_past):
            skips = Skips(model.decoder.prepare([each[:, None] for each in maps]), [0])
        # z_t ~ p(z_t) = N(0, I), or p_psi(z_t | x_{0:t-1}, c)
        z = epsilon = noise[:, t - 1]  # (B, z)
        if model.prior is not None:
            p, psi = model.prior(torch.cat([h, c[:, t - 1]], dim=-1)[:, None], psi)
            priors.append(p[:, 0])
            z = reparameterize(p[:, 0], epsilon)
        # z_t ~ q_phi(z_t | x_{1:t}); a context frame x_t is known in every rollout
        if z_from == "posterior" or t < n_past:
            h_target, _ = model.encoder(frames[:, t])  # (B, g)
            q, phi = model.posterior(h_target[:, None], phi)
            posteriors.append(q[:, 0])
            z = reparameterize(q[:, 0], epsilon)
        # g_t = LSTM_theta(h_{t-1}, c_{t-1}, z_t)
        c_and_z = torch.cat([c[:, t - 1], z], dim=-1)[:, None]  # (B, 1, C + z)
        g, theta = model.predictor(h[:, None], c_and_z, theta)  # (B, 1, g)
        # x^_t = Dec(g_t, skip features)
        predicted.append(model.decoder(g[:, 0], skips).sigmoid())  # (B, 3, H, W)
    return Unrolled(torch.stack(predicted, dim=1), posteriors, priors)
