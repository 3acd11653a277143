"""The small modules that a variant is made of, one by one and by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from labkit.config import ModelConfig
from labkit.model import VideoCVAE
from labkit.model.backbones import Block, Join, Skips
from labkit.model.latent_maps import LatentMap
from labkit.model.layers import (
    EMBEDDING_SIZE,
    ConditionalScale,
    ConditionEmbedding,
    FiLM,
    norm_1d,
    norm_2d,
)
from labkit.model.output import CDNA_KERNELS, CDNA_SIDE, CDNAOutput
from labkit.model.recurrent import GaussianLSTM


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(7, 5, 3, padding=1),
        nn.Conv2d(7, 5, 4, stride=2, padding=1),
        nn.ConvTranspose2d(7, 5, 4, stride=2, padding=1),
        nn.ConvTranspose2d(7, 5, 3, padding=1),
    ],
    ids=lambda conv: f"{type(conv).__name__}-{conv.kernel_size[0]}",
)
def test_a_join_is_the_convolution_of_the_pair(conv) -> None:
    join, x, skip = Join(conv, 4), torch.randn(2, 4, 8, 8), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(
        join(x) + join.skip(skip), conv(torch.cat([x, skip], dim=1)), atol=1e-5, rtol=1e-4
    )


def test_skips_serve_many_steps_without_a_copy() -> None:
    maps = torch.randn(2, 3, 4, 5, 5)
    one = Skips([maps], [1, 1, 1, 1]).at(0)
    assert one.shape == (2, 4, 4, 5, 5)
    assert one.untyped_storage().data_ptr() == maps.untyped_storage().data_ptr()
    assert torch.equal(one[:, 3], maps[:, 1])
    assert Skips([maps], range(3)).at(0) is maps
    assert torch.equal(Skips([maps], [0, 2, 2]).at(0), maps[:, [0, 2, 2]])
    assert torch.equal(Skips([maps], [0, 1]).at(0), maps[:, :2])


def test_film_starts_as_the_identity_and_then_scales_and_shifts() -> None:
    film, x, embedding = (
        FiLM(EMBEDDING_SIZE, 4),
        torch.randn(2, 4, 8, 8),
        torch.randn(2, EMBEDDING_SIZE),
    )
    torch.testing.assert_close(film(x, embedding), x)
    nn.init.normal_(film.linear.weight)
    gamma, beta = film.linear(embedding)[:, :, None, None].split(4, dim=1)
    torch.testing.assert_close(film(x, embedding), (1 + gamma) * x + beta)


def test_a_conditional_convolution_is_softplus_of_u_c_times_x_plus_v_c() -> None:
    scale, x, c = ConditionalScale(3, 4), torch.randn(2, 4, 5, 5), torch.randn(2, 3)
    torch.testing.assert_close(scale(x, c), x)
    nn.init.normal_(scale.u)
    nn.init.normal_(scale.v)
    made = scale(x, c)
    for n in range(2):
        for k in range(4):
            c_and_1 = [*c[n].tolist(), 1.0]
            u = sum(a * b for a, b in zip(scale.u[k].tolist(), c_and_1, strict=True))
            v = sum(a * b for a, b in zip(scale.v[k].tolist(), c_and_1, strict=True))
            softplus = torch.tensor(u).exp().log1p()
            torch.testing.assert_close(made[n, k], softplus * x[n, k] + v, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["film", "conv"])
def test_a_block_modulates_after_its_norm(kind: str) -> None:
    modulate = FiLM(3, 4) if kind == "film" else ConditionalScale(3, 4)
    for parameter in modulate.parameters():
        nn.init.normal_(parameter)
    conv, x, embedding = nn.Conv2d(2, 4, 1), torch.randn(2, 2, 8, 8), torch.randn(2, 3)
    block = Block(conv, 4, "group", modulate)
    expected = F.leaky_relu(modulate(block.norm(conv(x)), embedding), 0.2)
    torch.testing.assert_close(block(x, embedding), expected)


def test_an_embedding_is_the_condition_itself_or_an_embedding_of_it() -> None:
    c = torch.randn(5, 7)
    assert ConditionEmbedding("conv", 7)(c) is c
    assert ConditionEmbedding("film", 7)(c).shape == (5, EMBEDDING_SIZE)


@pytest.mark.parametrize(("channels", "groups"), [(4, 1), (8, 1), (16, 2), (24, 3), (64, 8)])
def test_groups_hold_about_eight_channels(channels: int, groups: int) -> None:
    assert norm_2d("group", channels).num_groups == groups
    assert norm_1d("group", channels).num_groups == groups
    x = torch.randn(3, channels)
    assert norm_1d("none", channels)(x) is x


# ------------------------------------------------------------------------------------- CDNA


def cdna(cell: tuple[int, int], mask: int) -> tuple[CDNAOutput, torch.Tensor]:
    """An output whose kernels all have their weight in one cell (row, column from the middle),
    and maps that choose one source everywhere."""
    output = CDNAOutput(2)
    nn.init.zeros_(output.kernels.weight)
    with torch.no_grad():
        bias = torch.full((CDNA_KERNELS, CDNA_SIDE, CDNA_SIDE), -100.0)
        middle = CDNA_SIDE // 2
        bias[:, middle + cell[0], middle + cell[1]] = 100.0
        output.kernels.bias.copy_(bias.flatten())
    maps = torch.zeros(2, output.in_channels, 16, 16)
    maps[:, 3 + mask] = 100.0
    return output, maps


def test_a_one_hot_kernel_moves_a_frame_by_whole_pixels() -> None:
    previous, reference = torch.rand(2, 2, 3, 16, 16)
    g = torch.zeros(2, 2)
    output, maps = cdna((0, 0), 0)
    torch.testing.assert_close(output(maps, g, previous, reference), previous)
    output, maps = cdna((1, -3), CDNA_KERNELS - 1)  # read one row down and three columns left
    made = output(maps, g, previous, reference)
    torch.testing.assert_close(made[..., :-1, 3:], previous[..., 1:, :-3])
    torch.testing.assert_close(made[..., 0, 0], previous[..., 1, 0])  # border repeated


def test_cdna_masks_choose_the_reference_or_fresh_pixels() -> None:
    previous, reference = torch.rand(2, 2, 3, 16, 16)
    output, maps = cdna((0, 0), CDNA_KERNELS)
    torch.testing.assert_close(output(maps, torch.zeros(2, 2), previous, reference), reference)
    output, maps = cdna((0, 0), CDNA_KERNELS + 1)
    fresh = torch.rand(2, 3, 16, 16)
    maps[:, :3] = fresh.logit()
    torch.testing.assert_close(output(maps, torch.zeros(2, 2), previous, reference), fresh)


def test_each_picture_has_kernels_of_its_own_and_nothing_leaves_the_range() -> None:
    torch.manual_seed(0)
    output, g = CDNAOutput(6), 30 * torch.randn(2, 6)
    maps = 5 * torch.randn(2, output.in_channels, 16, 16)
    previous, reference = torch.rand(2, 2, 3, 16, 16).round()
    both = output(maps, g, previous, reference)
    for n in range(2):
        one = output(*(each[n : n + 1] for each in (maps, g, previous, reference)))
        torch.testing.assert_close(both[n : n + 1], one)
    assert both.min() >= 0
    assert both.max() <= 1 + 1e-6
    white = torch.ones(2, 3, 16, 16)
    maps[:, :3] = 100.0
    torch.testing.assert_close(output(maps, g, white, white), white)


# ------------------------------------------------------------------------------ latent maps


def test_a_latent_map_adds_nothing_at_first_and_then_what_is_drawn() -> None:
    torch.manual_seed(0)
    latent, x, target = LatentMap(8, 6, 2), torch.randn(3, 8, 4, 4), torch.randn(3, 6, 4, 4)
    noise = torch.randn(3, 2 * 16)
    made, q, p = latent(x, target, noise)
    assert torch.equal(made, x)
    for gaussian in (q, p):
        assert gaussian.mean.shape == (3, 32)
        assert not gaussian.mean.any()
        assert not gaussian.log_variance.any()
    nn.init.normal_(latent.back.weight)
    made, _, _ = latent(x, target, noise)
    torch.testing.assert_close(made, x + latent.back(noise.view(3, 2, 4, 4)))
    nn.init.normal_(latent.posterior[-1].weight)
    nn.init.normal_(latent.prior[-1].weight)
    made, q, p = latent(x, target, noise)
    drawn = q.draw(noise).view(3, 2, 4, 4)
    torch.testing.assert_close(made, x + latent.back(drawn))
    assert not torch.allclose(q.mean, p.mean)
    made, q, p = latent(x, None, noise)
    assert q is None
    torch.testing.assert_close(made, x + latent.back(p.draw(noise).view(3, 2, 4, 4)))


def test_levels_below_depend_on_those_above_and_the_posterior_on_the_target() -> None:
    """Another epsilon of the vector changes q and p of the maps; another x_t changes their q."""
    torch.manual_seed(0)
    sizes = {"width": 4, "encoding_size": 8, "latent_size": 3, "hidden_size": 8}
    config = ModelConfig(
        frame_size=32, norm="group", predictor_norm="none", latent_levels=3, **sizes
    )
    model = VideoCVAE(config, 0).eval()
    assert model.latent_sizes == (3, 2 * 4**2, 2 * 8**2)
    frames, condition = torch.rand(1, 3, 3, 32, 32), torch.zeros(1, 3, 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        noise = torch.randn(1, 2, sum(model.latent_sizes))

        def roll(frames, noise):
            model._noise = lambda *_, **__: noise
            rollout = model.rollout(frames, condition, 2, teacher_forced=True)
            return [
                gaussian.mean[:, -1].split(model.latent_sizes, dim=-1)
                for gaussian in (rollout.posterior, rollout.prior)
            ]

        q, p = roll(frames, noise)
        other = noise.clone()
        other[..., :3] += 1  # the vector's epsilon
        q_other, p_other = roll(frames, other)
        assert torch.equal(q[0], q_other[0])
        for level in (1, 2):
            assert not torch.allclose(q[level], q_other[level])
            assert not torch.allclose(p[level], p_other[level])
        middle = noise.clone()
        middle[..., 3:35] += 1  # the first map's
        q_other, p_other = roll(frames, middle)
        assert torch.equal(p[1], p_other[1])
        assert not torch.allclose(q[2], q_other[2])
        assert not torch.allclose(p[2], p_other[2])
        changed = frames.clone()
        changed[:, 2] = 1 - changed[:, 2]  # x_t of the last step
        q_other, _ = roll(changed, noise)
        assert not torch.allclose(q[1], q_other[1])


def test_a_normalised_posterior_mean_has_variance_1_over_the_batch() -> None:
    """BN-VAE (Zhu et al. 2020): mean 0 and variance 1 over the batch in training, whatever the
    encodings; afterwards the statistics of the training are used, so a clip stands for itself."""
    torch.manual_seed(0)
    h = torch.randn(16, 5, 6)
    spread = {}
    for norm in ("none", "batch"):
        posterior = GaussianLSTM(6, 3, 8, 1, log_variance_start=-6.0, mean_norm=norm)
        for _ in range(60):
            q, _ = posterior(h)
        spread[norm] = q.mean.flatten(0, 1).var(dim=0, unbiased=False)
        assert (q.log_variance + 6).abs().max() < 1
    assert spread["none"].max() < 0.1
    torch.testing.assert_close(spread["batch"], torch.ones(3), atol=0.05, rtol=0)
    torch.testing.assert_close(q.mean.mean(dim=(0, 1)), torch.zeros(3), atol=1e-4, rtol=0)
    posterior.eval()
    alone, together = posterior(h[:1])[0].mean, posterior(h)[0].mean
    torch.testing.assert_close(alone, together[:1])
