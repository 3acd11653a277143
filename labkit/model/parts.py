"""The parts of VideoCVAE and one advance of them: what every kind of rollout is made of."""

from __future__ import annotations

from itertools import pairwise

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from labkit.config import CONDITION_SIZES, ModelConfig
from labkit.errors import ConfigError
from labkit.model.backbones import Decoder, Encoder, Levels, Skips
from labkit.model.gaussian import Gaussian, joined, standard_normal_like
from labkit.model.layers import Cue
from labkit.model.output import make_output
from labkit.model.recurrent import ConvLSTMPredictor, FramePredictor, GaussianLSTM
from labkit.model.state import Features, Memory

MOVES = 2
"""The first columns of an action: dx and dy. Gripper and lift, after them, are no distances."""


class Core(nn.Module):
    """Encoder, posterior, prior, predictor, decoder and output, as the config asks for them."""

    condition_mean: Tensor
    condition_std: Tensor

    def __init__(self, config: ModelConfig, condition_size: int) -> None:
        """
        Args:
            config: the model's shape.
            condition_size: C, the columns of the condition; 0 is a model that is told nothing.
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
        side, vgg = config.frame_size // 8, config.backbone == "vgg64"
        vector = config.predictor == "lstm"
        g_size = config.encoding_size if vector else 4 * config.width * side**2
        stages = (1, 2, 4, 8)  # widths of the encoder's maps, in the backbone's
        self.output = make_output(
            config.output, g_size, condition_size, [n * config.width for n in stages]
        )
        self.encoder = Encoder(config)
        self.decoder = Decoder(config, self.output.in_channels, condition_size)
        told = condition_size + config.latent_size
        self.predictor: FramePredictor | ConvLSTMPredictor
        if vector:
            self.predictor = FramePredictor(
                config.encoding_size + told,
                config.encoding_size,
                config.hidden_size,
                config.predictor_layers,
                config.predictor_norm,
            )
        else:
            self.predictor = ConvLSTMPredictor(
                (8 if vgg else 4) * config.width,
                told,
                4 * config.width,
                config.map_size,
                config.predictor_layers,
            )
        known = config.encoding_size + (condition_size if config.posterior_condition else 0)
        self.posterior = self._gaussian_lstm(known)
        learned = config.prior == "learned"
        self.prior = self._gaussian_lstm(config.encoding_size + condition_size) if learned else None
        self.cue = (
            None if config.conditioning == "input" else Cue(config.conditioning, condition_size)
        )
        # log sigma^2 of p(x_t | z), from an error of 0.1 in a value of [0, 1]
        self.log_variance = (
            nn.Parameter(torch.tensor(-4.6)) if config.observation == "learned" else None
        )
        # Part of the weights: a model means nothing without the units it was trained in.
        self.register_buffer("condition_mean", torch.zeros(condition_size))
        self.register_buffer("condition_std", torch.ones(condition_size))

    def set_condition_statistics(self, mean: Float[Tensor, " C"], std: Float[Tensor, " C"]) -> None:
        """Takes the training data's mean and deviation of each condition column. A column that
        never changes keeps its scale."""
        self.condition_mean.copy_(mean)
        self.condition_std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """Size of each level's latent: the vector's, then the maps' (channels x side x side)."""
        config = self.config
        sides = (config.frame_size // 8, config.frame_size // 4)[: config.latent_levels - 1]
        return (config.latent_size, *(config.level_size * side**2 for side in sides))

    def _gaussian_lstm(self, input_size: int) -> GaussianLSTM:
        config = self.config
        return GaussianLSTM(
            input_size, config.latent_size, config.hidden_size, config.posterior_layers
        )

    def _noise(
        self, steps: Float[Tensor, "B S C"], generator: torch.Generator | None, zero: bool = False
    ) -> Float[Tensor, "B S z"]:
        """epsilon of every draw of a rollout, all at once."""
        noise = steps.new_zeros(*steps.shape[:2], sum(self.latent_sizes))
        return noise if zero else noise.normal_(generator=generator)

    def _conditions(
        self, condition: Float[Tensor, "B _ C"], n_frames: int
    ) -> Float[Tensor, "B {n_frames}-1 C"]:
        """The condition of each step t = 1 .. n_frames-1, in the model's units."""
        first = 0 if self.config.condition_at == "previous" else 1
        return self._scaled(condition[:, first : first + n_frames - 1])

    def _scaled(self, condition: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        if not self.config.normalise_condition:
            return condition
        return (condition - self.condition_mean) / self.condition_std

    def _encode(self, frames: Float[Tensor, "B S 3 H W"]) -> Features:
        """Encodes S frames of each clip in one call, time folded into the batch."""
        clips = frames.shape[0]
        h, maps = self.encoder(rearrange(frames, "b s c h w -> (b s) c h w"))
        unfold = "(b s) ... -> b s ..."
        return Features(
            rearrange(h, unfold, b=clips), [rearrange(each, unfold, b=clips) for each in maps]
        )

    def _anchors(
        self, context: Float[Tensor, "B S 3 H W"], features: Features
    ) -> Float[Tensor, "B S _ H W"]:
        """What the output keeps of each context frame."""
        maps = [each.flatten(0, 1) for each in features.maps]
        return self.output.keep(context.flatten(0, 1), maps).unflatten(0, context.shape[:2])

    def _change(
        self, steps: Float[Tensor, "B S C"], since: Float[Tensor, "B 1 C"] | None
    ) -> tuple[Float[Tensor, "B S C"], Float[Tensor, "B 1 C"]]:
        """How far things have come since the last context frame, as the condition says it: where
        it has positions, by its difference from that frame's; where it has actions alone, by the
        sum of their moves up to the target, the other columns being as they are.

        Args:
            steps: of some steps, one after the other.
            since: what came before them: of `_since`, or of the steps before.
        Returns:
            the change, and `since` for the steps to come.
        """
        if self._has_positions:
            since = steps[:, :1] if since is None else since
            return steps - since, since
        moves = steps.clone()
        moves[..., MOVES:] = 0
        if self.config.normalise_condition:  # no action is no move, whatever the mean
            moves[..., :MOVES] += (self.condition_mean / self.condition_std)[:MOVES]
        total = moves.cumsum(dim=1) + (0.0 if since is None else since)
        # The move that leads to the target: the action of the frame before it.
        done = total if self.config.condition_at == "previous" else total - moves
        still = torch.cat([torch.zeros_like(steps[..., :MOVES]), steps[..., MOVES:]], dim=-1)
        return done + still, total[:, -1:]

    def _since(self, row: Float[Tensor, "B 1 C"]) -> Float[Tensor, "B 1 C"] | None:
        """What changes are counted from: the condition of the last context frame, scaled, where
        the steps do not begin with it anyway."""
        if self.config.condition_at == "previous":
            return None
        return self._change(row, row if self._has_positions else torch.zeros_like(row))[1]

    def _changes(
        self, rows: Float[Tensor, "B _ C"], steps: Float[Tensor, "B S C"], n_past: int
    ) -> Float[Tensor, "B S C"]:
        """The change of each step of a rollout, of all its conditions. A step within the context
        starts from a frame that is the last one known to it."""
        cuts = [*range(n_past), steps.shape[1]]
        parts = [
            self._change(steps[:, t:stop], self._since(rows[:, t : t + 1]))[0]
            for t, stop in pairwise(cuts)
        ]
        return torch.cat(parts, dim=1)

    def _infer(self, h: Float[Tensor, "B S g"], steps: Float[Tensor, "B S C"]) -> Gaussian:
        """q_phi(z_t | x_{1:t}, c) of S steps from t = 1, (B, S, z)."""
        inputs = torch.cat([h, steps], dim=-1) if self.config.posterior_condition else h
        return self.posterior(inputs)[0]

    def _recur(
        self,
        features: Features,
        steps: Float[Tensor, "B S C"],
        noise: Float[Tensor, "B S _"],
        q: Gaussian | None,
        memory: Memory,
        blind: Bool[Tensor, "B S"] | None = None,
    ) -> tuple[Float[Tensor, "B S ..."], Gaussian | None, Memory]:
        """The recurrent part of S steps: g_t = LSTM_theta(h_{t-1}, c, z_t), with z_t from q, or
        from the prior where there is no q or a step is blind to it. Returns g, a learned prior and
        the new state."""
        p, prior_state = None, None
        if self.prior is not None:
            # p_psi(z_t | x_{0:t-1}, c): of the frames fed, as it will be in predictions
            p, prior_state = self.prior(torch.cat([features.h, steps], dim=-1), memory.prior)
        noise = noise[..., : self.config.latent_size]
        chosen = q if q is not None else p
        if q is not None and blind is not None:
            chosen = (standard_normal_like(q) if p is None else p).where(blind, q)
        z = noise if chosen is None else chosen.draw(noise)
        vector = isinstance(self.predictor, FramePredictor)
        source = features.h if vector else features.maps[self._map_level]
        g, state = self.predictor(source, torch.cat([steps, z], dim=-1), memory.predictor)
        return g, p, Memory(state, prior_state)

    def _advance(
        self,
        fed: Float[Tensor, "B S 3 H W"],
        features: Features,
        skips: Skips,
        anchor: Float[Tensor, "B S _ H W"],
        change: Float[Tensor, "B S C"],
        steps: Float[Tensor, "B S C"],
        noise: Float[Tensor, "B S _"],
        q: Gaussian | None,
        targets: list[Tensor] | None,
        memory: Memory,
        blind: Bool[Tensor, "B S"] | None = None,
    ) -> tuple[Float[Tensor, "B S 3 H W"], Gaussian | None, Gaussian | None, Memory]:
        """S steps whose inputs are all there: g_t as above, x^_t = Dec(g_t, skips).

        `anchor` is what the output keeps of the last context frame, and `change` how far things
        have come since.

        Returns the frames; q of all levels and p of all levels where there is a q; the state.
        """
        g, p, memory = self._recur(features, steps, noise, q, memory, blind)
        cue = None if self.cue is None else self.cue(steps.flatten(0, 1))
        levels = Levels(
            noise[..., self.config.latent_size :].flatten(0, 1),
            None if targets is None else [each.flatten(0, 1) for each in targets],
            None if blind is None else blind.flatten(),
        )
        g = g.flatten(0, 1)
        maps = self.decoder(g, skips, cue, levels)
        told = torch.cat([steps, change], dim=-1).flatten(0, 1)
        frames = self.output(maps, g.flatten(1), fed.flatten(0, 1), anchor.flatten(0, 1), told)
        frames = frames.unflatten(0, fed.shape[:2])
        if q is None:
            return frames, None, None, memory
        q_levels, p_levels = (
            [Gaussian(*(x.unflatten(0, fed.shape[:2]) for x in vars(one).values())) for one in many]
            for many in (levels.q, levels.p)
        )
        p = standard_normal_like(q) if p is None else p
        return frames, joined([q, *q_levels], -1), joined([p, *p_levels], -1), memory

    def _drop_unused(self, features: Features) -> Features:
        """Of these features what `_recur` reads, the others with no channels: nothing else need be
        copied."""
        used = None if isinstance(self.predictor, FramePredictor) else self._map_level
        maps = [each if n == used else each[:, :, :0] for n, each in enumerate(features.maps)]
        return Features(features.h, maps)

    def _level_maps(self, features: Features) -> list[Tensor]:
        """The encoder's maps at the resolutions of the latent maps."""
        return [features.maps[self._map_level - n] for n in range(self.config.latent_levels - 1)]

    @property
    def _has_positions(self) -> bool:
        return self.condition_size == CONDITION_SIZES["action+position"]

    @property
    def _map_level(self) -> int:
        """Which of the encoder's maps has an eighth of the frame's side."""
        return 3 if self.config.backbone == "vgg64" else 2

    def _source(self, n_past: int) -> int:
        """The context frame whose skip features serve the steps after it."""
        return {"first": 0, "svg": max(0, n_past - 2)}.get(self.config.skip, n_past - 1)

    def _training_source(self, n_past: int, generator: torch.Generator | None) -> int:
        """The same in a training rollout, which may draw it."""
        if self.config.skip != "random_context" or not self.training:
            return self._source(n_past)
        device = None if generator is None else generator.device
        return int(torch.randint(n_past, (), generator=generator, device=device))
