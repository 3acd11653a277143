"""One step of the model, or S steps whose inputs are all known: StepInputs -> StepOutputs.

    h_{t-1}  = Enc(x_{t-1})
    z_t      ~ q_phi(z_t | x_{1:t}, c), or p(z_t)
    g_t      = LSTM_theta(h_{t-1}, c_{t-1}, z_t)
    x^_t     = Output(Dec(g_t, skips))

Nothing here knows of rollouts: which frame is fed and where z comes from is decided in
`video_cvae.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from labkit.model.backbones import Levels, Skips, map_level
from labkit.model.gaussian import Gaussian, concatenate, standard_normal_like
from labkit.model.parts import Networks
from labkit.model.pusher import PushCandidates
from labkit.model.recurrent import FramePredictor
from labkit.model.state import Features, LSTMStates


@dataclass(frozen=True, kw_only=True)
class RecurrentInputs:
    """What the LSTMs read at S steps."""

    features: Features
    """of the frames fed, x_{t-1}"""
    condition: Float[Tensor, "B S C"]
    """of each step, normalised"""
    noise: Float[Tensor, "B S z"]
    """epsilon of every draw, all levels side by side"""
    posterior: Gaussian | None = None
    """q_phi(z_t | x_{1:t}, c), (B, S, z); None draws z_t from the prior"""
    z_from_prior: Bool[Tensor, "B S"] | None = None
    """steps that draw z_t from the prior although there is a posterior; None is no step"""
    prior_detached: bool = False
    """let no gradient of a learned prior reach the encodings that it reads"""
    states: LSTMStates = field(default_factory=LSTMStates)


@dataclass(frozen=True, kw_only=True)
class StepInputs(RecurrentInputs):
    """What S steps of B clips read."""

    frames: Float[Tensor, "B S 3 H W"]
    """x_{t-1}: the frames fed"""
    skips: Skips
    reference_frame: Float[Tensor, "B S _ H W"]
    """the last context frame, as the output prepared it"""
    change: Float[Tensor, "B S _"]
    """of the condition since the last context frame"""
    condition_before: Float[Tensor, "B S C"] | None = None
    """of the step before each; None: nothing is known of it"""
    targets: list[Tensor] | None = None
    """the encoder's maps of x_t, for the posteriors of the latent maps, each (B, S, ...)"""


@dataclass(frozen=True)
class StepOutputs:
    """What S steps make."""

    frames: Float[Tensor, "B S 3 H W"]
    """x^_t, in [0, 1]"""
    posterior: Gaussian | None
    """q of all levels side by side, (B, S, z); None where there was none"""
    prior: Gaussian | None
    """p of all levels side by side, where there is a posterior"""
    states: LSTMStates
    reference_frame: Float[Tensor, "B _ H W"]
    """as the last of these steps left it, for the steps that follow"""
    push: PushCandidates | None = None
    """what an output that pushes chose from, (B, S, ...)"""


def encode(networks: Networks, frames: Float[Tensor, "B S 3 H W"]) -> Features:
    """h and skip features of S frames of each clip, in one call: time is folded into the batch."""
    h, maps = networks.encoder(rearrange(frames, "b s c h w -> (b s) c h w"))  # (B * S, g)
    unfold, clips = "(b s) ... -> b s ...", frames.shape[0]
    return Features(
        rearrange(h, unfold, b=clips), [rearrange(each, unfold, b=clips) for each in maps]
    )


def infer(
    networks: Networks, h: Float[Tensor, "B S g"], condition: Float[Tensor, "B S C"]
) -> Gaussian:
    """The posterior of S steps from t = 1, (B, S, z).

    Args:
        networks: of the model.
        h: encodings of the targets x_1 .. x_S.
        condition: of each step, normalised.
    """
    # q_phi(z_t | x_{1:t}, c) = N(mu_t, sigma_t^2), from LSTM_phi over h_1 .. h_t
    seen = torch.cat([h, condition], dim=-1) if networks.config.posterior_condition else h
    return networks.posterior(seen)[0]


def reference_frames(
    networks: Networks,
    context: Float[Tensor, "B S 3 H W"],
    features: Features,
    first: Float[Tensor, "B 1 3 H W"],
) -> Float[Tensor, "B S _ H W"]:
    """Each context frame as the output prepares it for the steps that refer to it.

    Args:
        networks: of the model.
        context: context frames.
        features: of these frames.
        first: the first context frame of each clip.
    """
    maps = [each.flatten(0, 1) for each in features.maps]
    first = first.expand_as(context).flatten(0, 1)
    prepared = networks.output.prepare_reference(context.flatten(0, 1), maps, first)
    return prepared.unflatten(0, context.shape[:2])


def recur(
    networks: Networks, inputs: RecurrentInputs
) -> tuple[Float[Tensor, "B S ..."], Float[Tensor, "B S z"], Gaussian | None, LSTMStates]:
    """The recurrent part of S steps.

    Returns:
        g of each step, (B, S, g) or (B, S, channels, side, side); z of each step; the learned
        prior, (B, S, z), None where the prior is fixed; the new states.
    """
    h, c, q = inputs.features.h, inputs.condition, inputs.posterior
    p, prior_state = None, None
    if networks.prior is not None:
        # p_psi(z_t | x_{0:t-1}, c), from the frames fed, as in a prediction
        read = h.detach() if inputs.prior_detached else h
        seen = torch.cat([read, c], dim=-1) if networks.config.prior_condition else read
        p, prior_state = networks.prior(seen, inputs.states.prior)
    chosen = p if q is None else q
    if q is not None and inputs.z_from_prior is not None:
        chosen = (standard_normal_like(q) if p is None else p).where(inputs.z_from_prior, q)
    # z_t = mu_t + sigma_t * epsilon_t;  z_t = epsilon_t where it is from N(0, I)
    epsilon = inputs.noise[..., : networks.config.latent_size]  # (B, S, z)
    z = epsilon if chosen is None else chosen.draw(epsilon)  # (B, S, z)
    # g_t = LSTM_theta(h_{t-1}, c_{t-1}, z_t)
    vector = isinstance(networks.predictor, FramePredictor)
    source = h if vector else inputs.features.maps[map_level(networks.config)]
    g, state = networks.predictor(source, torch.cat([c, z], dim=-1), inputs.states.predictor)
    return g, z, p, LSTMStates(state, prior_state)


def advance(networks: Networks, inputs: StepInputs) -> StepOutputs:
    """S steps whose inputs are all known, in one call."""
    fold = inputs.frames.shape[:2]
    # g_t = LSTM_theta(h_{t-1}, c_{t-1}, z_t)
    g, z, p, states = recur(networks, inputs)
    g = g.flatten(0, 1)  # (B * S, ...)
    c = inputs.condition.flatten(0, 1)  # (B * S, C)
    embed, from_prior = networks.condition_embedding, inputs.z_from_prior
    levels = Levels(
        inputs.noise[..., networks.config.latent_size :].flatten(0, 1),
        None if inputs.targets is None else [each.flatten(0, 1) for each in inputs.targets],
        None if from_prior is None else from_prior.flatten(),
    )
    conditioning = torch.cat([inputs.condition, inputs.change], dim=-1)  # (B, S, C + change)
    # maps_t = Dec(g_t, skips)
    embedding = None if embed is None else embed(c)
    maps = networks.decoder(g, inputs.skips, embedding, levels, conditioning.flatten(0, 1))
    # x^_t = Output(maps_t, g_t, x_{t-1}, reference frame, c and its change)
    if networks.output.reads_latent:
        conditioning = torch.cat([conditioning, z], dim=-1)
    before = inputs.condition if inputs.condition_before is None else inputs.condition_before
    reference, push = networks.output.push(
        inputs.reference_frame.flatten(0, 1), conditioning.flatten(0, 1), before.flatten(0, 1)
    )
    frames = networks.output(
        maps, g.flatten(1), inputs.frames.flatten(0, 1), reference, conditioning.flatten(0, 1)
    ).unflatten(0, fold)  # (B, S, 3, H, W)
    carried = reference.unflatten(0, fold)[:, -1]
    push = None if push is None else push.unflatten(*fold)
    q = inputs.posterior
    if q is None:
        return StepOutputs(frames, None, None, states, carried, push)
    p = standard_normal_like(q) if p is None else p
    q_maps = [each.unflatten(fold) for each in levels.posteriors]
    p_maps = [each.unflatten(fold) for each in levels.priors]
    q, p = concatenate([q, *q_maps], -1), concatenate([p, *p_maps], -1)
    return StepOutputs(frames, q, p, states, carried, push)


def level_targets(networks: Networks, features: Features) -> list[Tensor]:
    """The encoder's maps at the resolutions of the latent maps."""
    coarsest = map_level(networks.config)
    return [features.maps[coarsest - n] for n in range(networks.config.latent_levels - 1)]


def recurrent_features(networks: Networks, features: Features) -> Features:
    """Of these features what `recur` reads; the other maps have no channels, so that copies of
    them cost nothing."""
    vector = isinstance(networks.predictor, FramePredictor)
    used = None if vector else map_level(networks.config)
    maps = [each if n == used else each[:, :, :0] for n, each in enumerate(features.maps)]
    return Features(features.h, maps)
