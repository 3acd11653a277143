"""Right solutions of the exercises, written as a student would."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset


def kl_gaussian(mu_q, logvar_q, mu_p, logvar_p):
    squared = torch.exp(logvar_q) + (mu_q - mu_p) ** 2
    each = 0.5 * (logvar_p - logvar_q + squared / torch.exp(logvar_p) - 1)
    return each.sum(dim=-1)


def e_step(x, c, model):
    y = x - c @ model.V.T
    precision = torch.eye(model.W.shape[1]).to(x) + model.W.T @ model.W / model.variance
    covariance = torch.linalg.inv(precision)
    return y @ model.W @ covariance / model.variance, covariance


def m_step(x, c, model, mean, covariance):
    y = x - c @ model.V.T
    moment = mean.T @ mean + len(x) * covariance
    W = y.T @ mean @ torch.linalg.inv(moment)
    error = (y - mean @ W.T).square().sum() + len(x) * torch.trace(W @ covariance @ W.T)
    return W, error / x.numel()


def sequence_elbo(x, mu, logvar, model):
    mean, spread, total = torch.zeros(mu.shape[1]).to(x), torch.zeros(len(model.F)).diag().to(x), 0
    for t in range(1, len(x)):
        mean = model.F @ mean + mu[t - 1]
        spread = model.F @ spread @ model.F.T + torch.exp(logvar[t - 1]).diag()
        error = (x[t] - model.A @ x[t - 1] - model.H @ mean).square().sum()
        error = error + torch.trace(model.H @ spread @ model.H.T)
        size = x.shape[1]
        total = total - size / 2 * torch.log(2 * math.pi * model.variance)
        total = total - error / (2 * model.variance)
        kl = 0.5 * (mu[t - 1] ** 2 + torch.exp(logvar[t - 1]) - logvar[t - 1] - 1).sum()
        total = total - kl
    return total


class FolderClips(Dataset):
    def __init__(self, folders):
        self.folders = folders

    def __len__(self):
        return len(self.folders)

    def __getitem__(self, i):
        folder = Path(self.folders[i])
        pictures = [np.asarray(Image.open(folder / f"{t}.png")) for t in range(12)]
        frames = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        tables = []
        for name in ("actions.csv", "endeffector_positions.csv"):
            with (folder / name).open(newline="") as file:
                rows = [[float(cell) for cell in row] for row in csv.reader(file)]
            tables.append(torch.tensor(rows[:12]))
        return frames, torch.cat(tables, dim=1)


def reparameterize(mu, logvar):
    return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)


def free_run(model, context, condition, horizon):
    n_past = context.shape[1]
    state = model.begin(context, condition)
    frames = []
    for t in range(n_past, n_past + horizon):
        frame, state = model.step(state, condition[:, t - 1])
        frames.append(frame)
    return torch.stack(frames, dim=1)


def kl_weight(epoch, epochs, kind, cycles, ratio):
    if kind == "constant":
        return 1.0
    done = epoch / epochs if kind == "monotonic" else (epoch * cycles % epochs) / epochs
    return min(1.0, ratio * done)


def teacher_forcing_ratio(epoch, start, step, decay_start, bound):
    return max(bound, start - step * max(0, epoch - decay_start))


def training_step(model, optimizer, batch, beta, forced):
    optimizer.zero_grad()
    rollout = model.rollout(batch.frames, batch.condition, 2, teacher_forced=forced)
    error = ((rollout.frames - batch.frames[:, 1:]) ** 2).mean()
    q, p = rollout.posterior, rollout.prior
    kl = kl_gaussian(q.mean, q.log_variance, p.mean, p.log_variance).mean()
    loss = error + beta * kl
    loss.backward()
    optimizer.step()
    return loss.item()


def psnr(prediction, truth, averaging):
    squared = (prediction - truth) ** 2
    if averaging == "frame":
        return (-10 * torch.log10(squared.mean(dim=(-3, -2, -1)))).clamp(max=100)
    return (-10 * torch.log10(squared.mean(dim=(-2, -1)))).clamp(max=100).mean(dim=-1)


def test_psnr(loader, averaging):
    return torch.cat([psnr(x, y, averaging) for x, y in loader]).mean().item()


test_psnr.__test__ = False  # pytest: this is no test


def expected_condition(p_1, actions):
    moves = torch.zeros(len(actions), 3)
    moves[1:, :2] = actions[:-1, :2].cumsum(dim=0)
    return torch.cat([actions, p_1 + moves], dim=1)
