"""Test doubles of the public implementations, written from their module names and layers (SVG's
`dcgan_64`, `vgg_64`, `lstm`, `gaussian_lstm`, and the course's variants of them). Their rollout is
SVG's own loop, one frame at a time, with the condition put in.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.config import ModelConfig

G, Z, HIDDEN, N_PAST, HORIZON = 16, 6, 24, 2, 3


class Layer(nn.Module):
    """vgg_layer, dcgan_conv and dcgan_upconv: `main` holds convolution, norm, leaky ReLU."""

    def __init__(self, conv: nn.Module, out: int) -> None:
        super().__init__()
        self.main = nn.Sequential(conv, nn.BatchNorm2d(out), nn.LeakyReLU(0.2))

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


def vgg(*channels: int) -> nn.Sequential:
    """vgg_layers one after the other, from the first number of channels to the last."""
    return nn.Sequential(*(Layer(nn.Conv2d(a, b, 3, 1, 1), b) for a, b in pairwise(channels)))


def down(a: int, b: int) -> Layer:
    return Layer(nn.Conv2d(a, b, 4, 2, 1), b)


def up(a: int, b: int) -> Layer:
    return Layer(nn.ConvTranspose2d(a, b, 4, 2, 1), b)


class ReferenceEncoder(nn.Module):
    def __init__(self, backbone: str, dim: int) -> None:
        super().__init__()
        self.pool = backbone == "vgg64"
        if self.pool:
            self.c1, self.c2 = vgg(3, 64, 64), vgg(64, 128, 128)
            self.c3, self.c4 = vgg(128, 256, 256, 256), vgg(256, 512, 512, 512)
        else:
            self.c1, self.c2, self.c3, self.c4 = (
                down(3, 64),
                down(64, 128),
                down(128, 256),
                down(256, 512),
            )
        self.c5 = nn.Sequential(nn.Conv2d(512, dim, 4, 1, 0), nn.BatchNorm2d(dim), nn.Tanh())

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        skips = []
        for stage in (self.c1, self.c2, self.c3, self.c4):
            skips.append(stage(x))
            x = F.max_pool2d(skips[-1], 2, 2) if self.pool else skips[-1]
        return self.c5(x).flatten(1), skips


class ReferenceDecoder(nn.Module):
    def __init__(self, backbone: str, dim: int) -> None:
        super().__init__()
        self.pool = backbone == "vgg64"
        self.upc1 = nn.Sequential(
            nn.ConvTranspose2d(dim, 512, 4, 1, 0), nn.BatchNorm2d(512), nn.LeakyReLU(0.2)
        )
        if self.pool:
            self.upc2, self.upc3 = vgg(1024, 512, 512, 256), vgg(512, 256, 256, 128)
            self.upc4 = vgg(256, 128, 64)
            last: list[nn.Module] = [*vgg(128, 64), nn.ConvTranspose2d(64, 3, 3, 1, 1)]
        else:
            self.upc2, self.upc3, self.upc4 = up(1024, 256), up(512, 128), up(256, 64)
            last = [nn.ConvTranspose2d(128, 3, 4, 2, 1)]
        self.upc5 = nn.Sequential(*last, nn.Sigmoid())

    def forward(self, g: Tensor, skips: list[Tensor]) -> Tensor:
        x = self.upc1(g[:, :, None, None])
        for stage, skip in zip(
            (self.upc2, self.upc3, self.upc4, self.upc5), reversed(skips), strict=True
        ):
            x = F.interpolate(x, scale_factor=2, mode="nearest") if self.pool else x
            x = stage(torch.cat([x, skip], 1))
        return x


class ReferenceLSTM(nn.Module):
    """`lstm`: the state stays on the module, as it does there."""

    def __init__(self, inputs: int, outputs: int, hidden: int, layers: int, norm: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, hidden)
        self.lstm = nn.ModuleList(nn.LSTMCell(hidden, hidden) for _ in range(layers))
        between = [nn.BatchNorm1d(outputs)] if norm else []
        self.output = nn.Sequential(nn.Linear(hidden, outputs), *between, nn.Tanh())
        self.reset(1)

    def reset(self, batch: int) -> None:
        size = self.embed.out_features
        self.hidden = [(torch.zeros(batch, size),) * 2 for _ in self.lstm]

    def recur(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for i, cell in enumerate(self.lstm):
            self.hidden[i] = cell(x, self.hidden[i])
            x = self.hidden[i][0]
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.recur(x))


class ReferenceGaussianLSTM(ReferenceLSTM):
    """`gaussian_lstm`; epsilon is an argument here, so that both sides can be given the same."""

    def __init__(self, inputs: int, outputs: int, hidden: int, layers: int) -> None:
        super().__init__(inputs, outputs, hidden, layers, norm=False)
        del self.output
        self.mu_net, self.logvar_net = nn.Linear(hidden, outputs), nn.Linear(hidden, outputs)

    def forward(self, x: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.recur(x)
        mu, logvar = self.mu_net(x), self.logvar_net(x)
        return mu + epsilon * logvar.mul(0.5).exp(), mu, logvar


class Reference(nn.Module):
    """The five networks and the loop over them."""

    def __init__(self, config: ModelConfig, condition_size: int) -> None:
        super().__init__()
        self.order = "hcz"
        self.encoder = ReferenceEncoder(config.backbone, G)
        self.decoder = ReferenceDecoder(config.backbone, G)
        self.frame_predictor = ReferenceLSTM(
            G + condition_size + Z, G, HIDDEN, 2, config.predictor_norm == "batch"
        )
        self.posterior = ReferenceGaussianLSTM(G, Z, HIDDEN, 1)
        if config.prior == "learned":
            self.prior = ReferenceGaussianLSTM(G, Z, HIDDEN, 1)
        # Weights and statistics as after some training: nothing may hide behind 0 and 1.
        draw = torch.Generator().manual_seed(0)
        for module in self.modules():
            for name, value in module.named_parameters(recurse=False):
                if name.startswith("bias"):
                    value.data.normal_(0, 0.1, generator=draw)
                elif value.ndim == 1:
                    value.data.uniform_(0.5, 1.5, generator=draw)
                else:
                    transposed = isinstance(module, nn.ConvTranspose2d)
                    fan_in = 4 * len(value) if transposed else value[0].numel()
                    # What runs over time is large, so that a mistake in it shows in the pixels.
                    gain = 1.5 if value.ndim == 2 else 1.1
                    value.data.normal_(0, gain * fan_in**-0.5, generator=draw)
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.running_mean.normal_(0, 0.1, generator=draw)
                module.running_var.uniform_(0.5, 1.5, generator=draw)

    def states(self) -> dict[str, dict[str, Tensor]]:
        return {name: part.state_dict() for name, part in self.named_children()}

    @torch.no_grad()
    def run(
        self,
        frames: Tensor,
        condition: Tensor,
        noise: Tensor,
        *,
        skips_until: int,
        forced: bool,
        from_posterior: bool,
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
        """x^_1 .. x^_{T-1}, and mu and logvar of posterior and prior at each step."""
        prior = getattr(self, "prior", None)
        for part in (self.frame_predictor, self.posterior, prior):
            if part is not None:
                part.reset(len(frames))
        made, posteriors, priors = [], [], []
        for i in range(1, frames.shape[1]):
            known = forced or i <= N_PAST
            h, features = self.encoder(frames[:, i - 1] if known else made[-1])
            if i <= skips_until:  # "if opt.last_frame_skip or i < opt.n_past" in SVG's loop
                skip = features
            epsilon = noise[:, i - 1]
            z = epsilon
            if prior is not None:
                z, *gaussian = prior(h, epsilon)
                priors.append(tuple(gaussian))
            if from_posterior or i < N_PAST:
                z, *gaussian = self.posterior(self.encoder(frames[:, i])[0], epsilon)
                posteriors.append(tuple(gaussian))
            parts = {"h": h, "c": condition[:, i - 1], "z": z}
            g = self.frame_predictor(torch.cat([parts[name] for name in self.order], 1))
            made.append(self.decoder(g, skip))
        return torch.stack(made, 1), posteriors, priors
