"""Weights of the public implementations give the same outputs here.

The reference networks below are test doubles, written from those implementations' module names
and layers (SVG's `dcgan_64`, `vgg_64`, `lstm`, `gaussian_lstm`, and the course's variants of them);
their rollout is SVG's own loop, one frame at a time, with the condition put in. The course's lets
skip features freeze a frame later, at the last context frame.
"""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.config import ModelConfig
from labkit.errors import RunError
from labkit.model import VideoCVAE
from labkit.model.import_weights import load_reference, read_states
from labkit.presets import COURSE, SVG

G, Z, HIDDEN, N_PAST, HORIZON = 16, 6, 24, 2, 3
SIZES = {"encoding_size": G, "latent_size": Z, "hidden_size": HIDDEN}


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


COURSE_MODEL = dataclasses.replace(COURSE.model, **SIZES)
SVG_MODEL = dataclasses.replace(SVG.model, **SIZES)
CASES = {
    "course": (COURSE_MODEL, 7),
    "course, dcgan64": (dataclasses.replace(COURSE_MODEL, backbone="dcgan64"), 7),
    "course, dcgan64, last_frame_skip": (
        dataclasses.replace(COURSE_MODEL, backbone="dcgan64", skip="previous"),
        7,
    ),
    "svg, learned prior": (SVG_MODEL, 0),
    "svg, learned prior, dcgan64, last_frame_skip": (
        dataclasses.replace(SVG_MODEL, backbone="dcgan64", skip="previous"),
        0,
    ),
    "svg, fixed prior, dcgan64": (
        dataclasses.replace(SVG_MODEL, backbone="dcgan64", prior="fixed"),
        0,
    ),
}


def make(config: ModelConfig, condition_size: int) -> tuple[Reference, VideoCVAE]:
    return Reference(config, condition_size).eval(), VideoCVAE(config, condition_size).eval()


def draws(condition_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Frames, conditions and epsilon of one clip."""
    generator = torch.Generator().manual_seed(1)
    frames = torch.rand(1, N_PAST + HORIZON, 3, 64, 64, generator=generator)
    condition = torch.randn(1, N_PAST + HORIZON, condition_size, generator=generator)
    return frames, condition, torch.randn(1, N_PAST + HORIZON - 1, Z, generator=generator)


@pytest.mark.parametrize("name", CASES)
def test_same_weights_and_inputs_give_the_same_outputs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, condition_size = CASES[name]
    reference, model = make(config, condition_size)
    load_reference(model, reference.states())
    frames, condition, noise = draws(condition_size)
    monkeypatch.setattr(model, "_noise", lambda steps, *_, zero=False: noise * (0 if zero else 1))
    until = {"previous": 99, "last_context": N_PAST, "svg": N_PAST - 1}[config.skip]
    skip = {"skips_until": until}

    def close(ours: Tensor, theirs: Tensor) -> None:
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)

    with torch.no_grad():
        for forced in (True, False):
            expected, posteriors, priors = reference.run(
                frames, condition, noise, forced=forced, from_posterior=True, **skip
            )
            rollout = model.rollout(frames, condition, N_PAST, teacher_forced=forced)
            close(rollout.frames, expected)
            close(rollout.posterior.mean, torch.stack([mu for mu, _ in posteriors], 1))
            close(rollout.posterior.log_variance, torch.stack([s for _, s in posteriors], 1))
            if priors:
                close(rollout.prior.mean, torch.stack([mu for mu, _ in priors], 1))
                close(rollout.prior.log_variance, torch.stack([s for _, s in priors], 1))
        predictions = []
        for epsilon in (noise, noise * 0):
            expected, _, _ = reference.run(
                frames, condition, epsilon, forced=False, from_posterior=False, **skip
            )
            sample = bool(epsilon.any())
            made = model.predict(frames[:, :N_PAST], condition, HORIZON, sample=sample)
            close(made, expected[:, N_PAST - 1 :])
            predictions.append(made)
    # z must matter, or everything above would be easy.
    difference = (predictions[0] - predictions[1]).abs().amax(dim=(0, 2, 3, 4))
    assert (difference > 1e-3).all()


@pytest.mark.parametrize("order", ["hcz", "chz", "hzc", "zch"])
def test_any_order_of_the_predictor_s_inputs(order: str, monkeypatch) -> None:
    """Weights made for another order have the same shapes, and would load without a word."""
    config, condition_size = CASES["course, dcgan64"]
    reference, model = make(config, condition_size)
    reference.order = order
    load_reference(model, reference.states(), order=order)
    frames, condition, noise = draws(condition_size)
    monkeypatch.setattr(model, "_noise", lambda *_, **__: noise)
    expected, _, _ = reference.run(
        frames, condition, noise, forced=False, from_posterior=False, skips_until=N_PAST
    )
    with torch.no_grad():
        made = model.predict(frames[:, :N_PAST], condition, HORIZON)
    torch.testing.assert_close(made, expected[:, N_PAST - 1 :], atol=1e-5, rtol=0)


def test_an_order_that_is_none_is_refused(states) -> None:
    with pytest.raises(RunError, match="order is 'hc'; expected h, c and z"):
        load_reference(VideoCVAE(*SMALL), states, order="hc")


SMALL = CASES["svg, fixed prior, dcgan64"]


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, Tensor]]:
    return Reference(*SMALL).states()


def test_a_missing_or_needless_part_is_named(states: dict) -> None:
    model = VideoCVAE(*SMALL)
    fewer = {name: state for name, state in states.items() if name != "posterior"}
    with pytest.raises(RunError, match="parts are decoder, encoder, frame_predictor; exp"):
        load_reference(model, fewer)
    with pytest.raises(RunError, match="fixed expects none"):
        load_reference(model, {**states, "prior": states["posterior"]})


def test_missing_and_needless_tensors_are_named_and_nothing_is_taken(states: dict) -> None:
    model = VideoCVAE(*SMALL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    encoder = {n: value for n, value in states["encoder"].items() if n != "c2.main.0.weight"}
    with pytest.raises(RunError, match=r"encoder\.c2\.main\.0\.weight is missing"):
        load_reference(model, {**states, "encoder": encoder})
    encoder = {**states["encoder"], "c6.weight": torch.zeros(1)}
    with pytest.raises(RunError, match=r"encoder\.c6\.weight is not in this model"):
        load_reference(model, {**states, "encoder": encoder})
    posterior = {**states["posterior"], "embed.weight": torch.zeros(HIDDEN, G + 1)}
    with pytest.raises(
        RunError, match=r"posterior\.embed\.weight has shape \(24, 17\).*\(24, 16\)"
    ):
        load_reference(model, {**states, "posterior": posterior})
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    "change",
    [
        {"norm": "group"},
        {"align": True},
        {"latent_levels": 2},
        {"predictor": "convlstm"},
        {"predictor_norm": "group"},
        {"observation": "learned"},
        {"output": "flow"},
        {"output": "cdna"},
        {"normalise_condition": True},
    ],
    ids=lambda change: "=".join(map(str, *change.items())),
)
def test_a_model_without_counterpart_is_refused(change: dict, states: dict) -> None:
    """Never half loaded in silence, the rest left random."""
    model = VideoCVAE(dataclasses.replace(SMALL[0], **change), 0)
    before = model.posterior.mean.weight.clone()
    with pytest.raises(RunError, match=r"differ in|is not in this model|is missing|has shape"):
        load_reference(model, states)
    assert torch.equal(model.posterior.mean.weight, before)


def test_state_dicts_are_read_and_modules_refused(states: dict, tmp_path: Path) -> None:
    file = tmp_path / "states.pt"
    torch.save(states, file)
    read = read_states(file)
    assert set(read) == set(states)
    model = VideoCVAE(*SMALL)
    load_reference(model, read)
    assert torch.equal(model.posterior.mean.weight, states["posterior"]["mu_net.weight"])
    torch.save({"encoder": nn.Linear(1, 1)}, file)  # as the public implementations save theirs
    with pytest.raises(RunError, match=r"states\.pt: holds more than tensors.*state_dict\(\)"):
        read_states(file)
    for content in (states["encoder"], [1, 2]):
        torch.save(content, file)
        with pytest.raises(RunError, match="no table of state dicts"):
            read_states(file)
    file.write_bytes(b"not weights")
    with pytest.raises(RunError, match="or is damaged"):
        read_states(file)
    with pytest.raises(RunError, match="no such file"):
        read_states(tmp_path / "nothing.pt")
