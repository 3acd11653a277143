"""The known mistakes, each caught with the hint for its kind."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import solutions
import torch
from PIL import Image
from torch.nn import functional

from labkit.course import checks
from labkit.course.checks.exercise import CheckFailed


def hint_of(name: str, *functions: Any) -> str:
    """The message of a wrong solution."""
    with pytest.raises(CheckFailed) as caught:
        getattr(checks, f"check_{name}")(*functions)
    return str(caught.value)


# --------------------------------------------------------------------------- notebook 01


def kl(mu_q, logvar_q, mu_p, logvar_p):
    squared = torch.exp(logvar_q) + (mu_q - mu_p) ** 2
    return 0.5 * (logvar_p - logvar_q + squared / torch.exp(logvar_p) - 1)


def kl_of_difference(mu_q, logvar_q, mu_p, logvar_p):
    """log(q - p) in place of log q - log p, by numbers."""
    grid = torch.linspace(-8, 8, 400).to(mu_q)[:, None, None]
    q = torch.exp(-((grid - mu_q) ** 2) / (2 * torch.exp(logvar_q)))
    p = torch.exp(-((grid - mu_p) ** 2) / (2 * torch.exp(logvar_p)))
    return (q * torch.log(q - p)).sum(dim=(0, -1))


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda *a: -kl(*a).sum(-1), "the sign is wrong"),
        (lambda *a: kl(*a).mean(-1), "this is their mean"),
        (lambda *a: kl(*a).sum(), "one number for each row"),
        (lambda *a: kl(*a), "one number for each row"),
        (lambda a, b, c, d: kl(c, d, a, b).sum(-1), "exchanged"),
        (kl_of_difference, "not log(q - p)"),
        (lambda a, b, c, d: kl(a, 2 * b, c, 2 * d).sum(-1), "standard deviation"),
        (lambda a, b, c, d: kl(a, b / 2, c, d / 2).sum(-1), "standard deviation"),
        (lambda *a: 2 * kl(*a).sum(-1), "1/2"),
        (lambda *a: (kl(*a) + 0.5).sum(-1), "-1"),
        (lambda a, b, c, d: kl(a, b, 0 * c, 0 * d).sum(-1), "N(0, I)"),
        (lambda *a: kl(*a).sum(-1).detach(), "no gradient"),
    ],
)
def test_kl_gaussian(wrong: Any, hint: str) -> None:
    assert hint in hint_of("kl_gaussian", wrong)


def uncentred_e(x, c, model):
    return solutions.e_step(x, 0 * c, model)


def e_with(change):
    def wrong(x, c, model):
        mean, covariance = solutions.e_step(x, c, model)
        return change(mean, covariance)

    return wrong


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (uncentred_e, "x is not centred"),
        (e_with(lambda mean, covariance: (mean, torch.linalg.inv(covariance))), "inverse"),
        (e_with(lambda mean, covariance: (mean.T, covariance)), "shape"),
        (e_with(lambda mean, covariance: mean), "expected 2 values"),
    ],
)
def test_e_step(wrong: Any, hint: str) -> None:
    assert hint in hint_of("em", wrong, solutions.m_step)


def m_uncentred(x, c, model, mean, covariance):
    return solutions.m_step(x, 0 * c, model, mean, covariance)


def m_without_spread(x, c, model, mean, covariance):
    return solutions.m_step(x, c, model, mean, 0 * covariance)


def m_with(change):
    def wrong(x, c, model, mean, covariance):
        W, variance = solutions.m_step(x, c, model, mean, covariance)
        return change(W, variance, x)

    return wrong


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (m_uncentred, "x is not centred"),
        (m_without_spread, "the covariance is missing"),
        (m_with(lambda W, variance, x: (W, variance * x.shape[1])), "N x entries"),
        (m_with(lambda W, variance, x: (W, variance.sqrt())), "not its root"),
        (m_with(lambda W, variance, x: (W.T, variance)), "shape"),
    ],
)
def test_m_step(wrong: Any, hint: str) -> None:
    assert hint in hint_of("em", solutions.e_step, wrong)


def sequence(x, mu, logvar, model, *, forget_mean=False, forget_spread=False, spread_of_q=True):
    mean, spread = torch.zeros(mu.shape[1]).to(x), torch.zeros(len(model.F), len(model.F)).to(x)
    total, kls = 0, 0
    for t in range(1, len(x)):
        mean = mu[t - 1] + (0 if forget_mean else model.F @ mean)
        own = torch.exp(logvar[t - 1]).diag()
        spread = own + (0 if forget_spread else model.F @ spread @ model.F.T)
        error = (x[t] - model.A @ x[t - 1] - model.H @ mean).square().sum()
        if spread_of_q:
            error = error + torch.trace(model.H @ spread @ model.H.T)
        total = total - x.shape[1] / 2 * torch.log(2 * math.pi * model.variance)
        total = total - error / (2 * model.variance)
        kls = kls + 0.5 * (mu[t - 1] ** 2 + torch.exp(logvar[t - 1]) - logvar[t - 1] - 1).sum()
    return total, kls


def elbo_with(sign=-1.0, **mistake):
    def wrong(x, mu, logvar, model):
        total, kls = sequence(x, mu, logvar, model, **mistake)
        return total + sign * kls

    return wrong


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (elbo_with(forget_mean=True, forget_spread=True), "x_t depends on all of z_1 .. z_t"),
        (elbo_with(forget_mean=True), "x_t depends on all of z_1 .. z_t"),
        (elbo_with(forget_spread=True), "the spread of the earlier latents is missing"),
        (elbo_with(spread_of_q=False), "the expectation over z is missing"),
        (elbo_with(sign=1.0), "the KL is subtracted"),
        (elbo_with(sign=0.0), "the KL to the prior is missing"),
        (lambda *a: -elbo_with()(*a), "negative ELBO"),
    ],
)
def test_sequence_elbo(wrong: Any, hint: str) -> None:
    assert hint in hint_of("sequence_elbo", wrong)


# --------------------------------------------------------------------------- notebook 02


class Clips(solutions.FolderClips):
    """A right data set; the classes below each make one mistake."""

    def names(self, folder):
        return [f"{t}.png" for t in range(12)]

    def tables(self, folder):
        return [folder / "actions.csv", folder / "endeffector_positions.csv"]

    def rows(self, table):
        return torch.from_numpy(np.loadtxt(table, delimiter=",", dtype=np.float32))[:12]

    def __getitem__(self, i):
        folder = Path(self.folders[i])
        frames = np.stack([np.asarray(Image.open(folder / name)) for name in self.names(folder)])
        rows = torch.cat([self.rows(table) for table in self.tables(folder)], dim=1)
        return torch.from_numpy(frames).permute(0, 3, 1, 2), rows


class ByText(Clips):
    def names(self, folder):
        return sorted(file.name for file in folder.glob("*.png"))[:12]


class AsListed(Clips):
    def names(self, folder):
        return [name for name in os.listdir(folder) if name.endswith(".png")][:12]


class AsWalked(Clips):
    def names(self, folder):
        (_, _, files) = next(os.walk(folder))
        return [name for name in files if name.endswith(".png")][:12]


class TablesAsListed(Clips):
    def tables(self, folder):
        return [folder / name for name in os.listdir(folder) if name.endswith(".csv")]


class TablesByGlob(Clips):
    def tables(self, folder):
        return list(folder.glob("*.csv"))


class WithHeader(Clips):
    def rows(self, table):
        data = np.loadtxt(table, delimiter=",", dtype=np.float32, skiprows=1)
        return torch.from_numpy(data)[:12]


class ReadsAll(Clips):
    def __init__(self, folders):
        super().__init__(folders)
        self.items = [super(ReadsAll, self).__getitem__(i) for i in range(len(folders))]

    def __getitem__(self, i):
        return self.items[i]


class ReadsAllEachTime(Clips):
    def __getitem__(self, i):
        return [super(ReadsAllEachTime, self).__getitem__(n) for n in range(len(self))][i]


class DecodesAllFrames(Clips):
    def __getitem__(self, i):
        for file in Path(self.folders[i]).glob("*.png"):
            np.asarray(Image.open(file))
        return super().__getitem__(i)


class ChannelsLast(Clips):
    def __getitem__(self, i):
        frames, rows = super().__getitem__(i)
        return frames.permute(0, 2, 3, 1), rows


class Floats(Clips):
    def __getitem__(self, i):
        frames, rows = super().__getitem__(i)
        return frames / 255, rows


def test_the_right_clips_of_this_file_pass() -> None:
    checks.check_getitem(Clips)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (ByText, "ordered by text"),
        (AsListed, "in the order in which the folder lists them"),
        (AsWalked, "in the order in which the folder lists them"),
        (TablesAsListed, "tables are exchanged"),
        (TablesByGlob, "tables are exchanged"),
        (WithHeader, "no header"),
        (ReadsAll, "read files in __getitem__"),
        (ReadsAllEachTime, "read files in __getitem__"),
        (DecodesAllFrames, "read files in __getitem__"),
        (ChannelsLast, "channels come second"),
        (Floats, "keep the bytes"),
    ],
)
def test_getitem(wrong: Any, hint: str) -> None:
    assert hint in hint_of("getitem", wrong)


# --------------------------------------------------------------------------- notebook 03


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda mu, logvar: mu + logvar * torch.randn_like(mu), "logvar is used as the deviation"),
        (lambda mu, logvar: mu + torch.exp(logvar) * torch.randn_like(mu), "the variance"),
        (lambda mu, logvar: mu + 0 * logvar, "nothing is drawn"),
        (lambda mu, logvar: mu + torch.randn_like(mu) + 0 * logvar, "the noise is not scaled"),
        (lambda mu, logvar: torch.exp(logvar / 2) * torch.randn_like(mu), "mu is not added"),
        (
            lambda mu, logvar: torch.normal(mu.detach(), torch.exp(logvar / 2).detach()),
            "no torch.normal",
        ),
        (
            lambda mu, logvar: mu + torch.exp(logvar / 2).detach() * torch.randn_like(mu),
            "(z - mu) / 2",
        ),
        (
            lambda mu, logvar: (
                mu + torch.exp(logvar / 2) * torch.randn(mu.shape, generator=torch.manual_seed(0))
            ),
            "set no seed",
        ),
        (
            lambda mu, logvar: (
                mu + torch.exp(logvar / 2) * math.sqrt(12) * (torch.rand_like(mu) - 0.5)
            ),
            "rand is uniform",
        ),
    ],
)
def test_reparameterize(wrong: Any, hint: str) -> None:
    assert hint in hint_of("reparameterize", wrong)


def run_with(row=lambda t, n_past: t - 1, keep_state=True, again=False):
    def wrong(model, context, condition, horizon):
        n_past, frames = context.shape[1], []
        state = model.begin(context, condition)
        for t in range(n_past, n_past + horizon):
            frame, after = model.step(state, condition[:, row(t, n_past)])
            state = after if keep_state else state
            frames.append(frame)
            if again:
                context = torch.cat([context[:, 1:], frame[:, None]], dim=1)
                state = model.begin(context, condition)
        return torch.stack(frames, dim=1)

    return wrong


def from_the_posterior(model, context, condition, horizon):
    frames = torch.zeros(2, context.shape[1] + horizon, 3, 64, 64)
    return model.reconstruct(frames, condition, context.shape[1])


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (run_with(row=lambda t, n_past: t), "the condition that leads from"),
        (run_with(row=lambda t, n_past: t - n_past), "count from the end of the context"),
        (run_with(keep_state=False), "thrown away"),
        (run_with(again=True), "feeds true frames"),
        (from_the_posterior, "z comes from the posterior"),
        (lambda *a: solutions.free_run(*a)[:, 1:], "the predicted frames alone"),
    ],
)
def test_free_run(wrong: Any, hint: str) -> None:
    assert hint in hint_of("free_run", wrong)


# --------------------------------------------------------------------------- notebook 04


def weight_with(restart=True, capped=True, rounded=False):
    def wrong(epoch, epochs, kind, cycles, ratio):
        if kind == "constant":
            return 1.0
        done = epoch / epochs
        if kind == "cyclical" and rounded:
            period = max(1, epochs // cycles)
            done = epoch % period / period
        elif kind == "cyclical":
            done = epoch * cycles / epochs
            done = done % 1 if restart else done
        return min(1.0, ratio * done) if capped else ratio * done

    return wrong


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (weight_with(restart=False), "no restart"),
        (weight_with(capped=False), "above 1"),
        (weight_with(rounded=True), "do not round"),
        (lambda e, n, kind, c, r: solutions.kl_weight(e, n, "monotonic", c, r), "no restart"),
    ],
)
def test_kl_weight(wrong: Any, hint: str) -> None:
    assert hint in hint_of("kl_weight", wrong)


def falls_below(epoch, start, step, decay_start, bound):
    ratio = start
    for each in range(1, epoch + 1):
        if each > decay_start and ratio >= bound:
            ratio = ratio - step
    return ratio


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (falls_below, "ends below its bound"),
        (lambda e, s, step, d, b: s - step * max(0, e - d), "ends below its bound"),
        (lambda e, s, step, d, b: max(b, s - step * e), "begins at decay_start"),
        (lambda e, s, step, d, b: max(b, s - step * (e - d)), "before decay_start"),
    ],
)
def test_teacher_forcing_ratio(wrong: Any, hint: str) -> None:
    assert hint in hint_of("teacher_forcing_ratio", wrong)


def step_with(clear=True, cross=False, fixed=False, beta_used=True, stepping=True):
    def wrong(model, optimizer, batch, beta, forced):
        if clear:
            optimizer.zero_grad()
        rollout = model.rollout(batch.frames, batch.condition, 2, teacher_forced=forced)
        made, truth = rollout.frames, batch.frames[:, 1:]
        q, p = rollout.posterior, rollout.prior
        error = ((made - truth) ** 2).mean()
        if cross:
            error = functional.cross_entropy(made.flatten(0, 1), truth.flatten(0, 1))
        kl = solutions.kl_gaussian(q.mean, q.log_variance, p.mean, p.log_variance).mean()
        loss = error + (beta if beta_used else 1) * kl
        loss.backward()
        if fixed and not forced:
            # As if z had come from a fixed Gaussian: the posterior learns nothing.
            for each in model.posterior.parameters():
                each.grad = None
        if stepping:
            optimizer.step()
        return loss.item()

    return wrong


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (step_with(clear=False), "no zero_grad"),
        (step_with(cross=True), "cross entropy"),
        (step_with(fixed=True), "not from a fixed Gaussian"),
        (step_with(beta_used=False), "beta is missing"),
        (step_with(stepping=False), "the weights after the step are not right"),
    ],
)
def test_training_step(wrong: Any, hint: str) -> None:
    assert hint in hint_of("training_step", wrong)


# ------------------------------------------------------------------- notebooks 05 and 06


def psnr_255(x, y, averaging):
    return solutions.psnr(255 * x, 255 * y, averaging)


def psnr_uncapped(x, y, averaging):
    error = (x - y) ** 2
    if averaging == "frame":
        return -10 * torch.log10(error.mean(dim=(-3, -2, -1)))
    return -10 * torch.log10(error.mean(dim=(-2, -1))).mean(dim=-1)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda x, y, averaging: solutions.psnr(x, y, "frame"), "the other protocol"),
        (lambda x, y, averaging: solutions.psnr(x, y, averaging) + 48.1308036, "1, not 255"),
        (psnr_uncapped, "count it as 100 dB"),
        (lambda x, y, averaging: -10 * torch.log10(((x - y) ** 2).mean()), "for each frame"),
        (lambda x, y, averaging: -solutions.psnr(x, y, averaging), "the sign is wrong"),
    ],
)
def test_psnr(wrong: Any, hint: str) -> None:
    assert hint in hint_of("psnr", wrong)


def last_batch(loader, averaging):
    for x, y in loader:
        mean = solutions.psnr(x, y, averaging).mean()
    return mean.item()


def mean_of_means(loader, averaging):
    return np.mean([solutions.psnr(x, y, averaging).mean().item() for x, y in loader])


def of_mean_error(loader, averaging):
    errors = torch.cat([((x - y) ** 2).mean(dim=(2, 3, 4)) for x, y in loader])
    return -10 * math.log10(errors.mean().item())


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (last_batch, "the last batch only"),
        (mean_of_means, "the mean of the batches' means"),
        (of_mean_error, "the PSNR of the mean error"),
        (lambda loader, a: solutions.test_psnr(loader, "frame"), "the other protocol"),
        (lambda loader, a: solutions.test_psnr(loader[:-1], a), "left out"),
    ],
)
def test_test_psnr(wrong: Any, hint: str) -> None:
    assert hint in hint_of("test_psnr", wrong)


MEASURED = torch.rand(20, 3)


def measured(p_1, actions):
    return torch.cat([actions, MEASURED[: len(actions)]], dim=1)


def own_action(p_1, actions):
    moves = torch.zeros(len(actions), 3)
    moves[:, :2] = actions[:, :2].cumsum(dim=0)
    return torch.cat([actions, p_1 + moves], dim=1)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (measured, "a measured position of the clip"),
        (own_action, "row k uses its own action"),
        (lambda p, a: torch.cat([a, p.expand(len(a), 3)], dim=1), "never moves"),
        (
            lambda p, a: torch.cat([a, solutions.expected_condition(p, a)[:, 4:] - p], dim=1),
            "p_1 is missing",
        ),
    ],
)
def test_expected_condition(wrong: Any, hint: str) -> None:
    assert hint in hint_of("expected_condition", wrong)
