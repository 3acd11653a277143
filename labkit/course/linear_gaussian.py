"""Latent-variable models small enough that everything about them is known exactly.

`LinearGaussian` has one latent vector, `StateSpace` one for each time step. Both have an exact
likelihood and an exact posterior, so that every step of the ELBO's derivation can be checked by a
number (`notebooks/01_elbo_derivation.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import MultivariateNormal


def _normal(*size: int, generator: torch.Generator | None) -> Tensor:
    return torch.randn(*size, generator=generator, dtype=torch.float64)


def _kl(mean: Tensor, covariance: Tensor, prior_mean: Tensor) -> Tensor:
    """KL(N(mean, covariance) || N(prior_mean, I)) in nats, for each leading index of the mean."""
    squared = (mean - prior_mean).square().sum(dim=-1)
    size = mean.shape[-1]
    return 0.5 * (torch.trace(covariance) + squared - size - torch.logdet(covariance))


@dataclass(frozen=True)
class LinearGaussian:
    """p(z) = N(0, I), p(x | z, c) = N(W z + V c, variance I); float64.

    With a known V this is factor analysis with one noise variance: probabilistic PCA (Tipping &
    Bishop 1999).
    """

    W: Float[Tensor, "x z"]
    V: Float[Tensor, "x c"]
    variance: Float[Tensor, ""]
    """s^2, of each entry of x"""

    @classmethod
    def random(
        cls, x: int = 4, z: int = 2, c: int = 3, *, generator: torch.Generator | None = None
    ) -> LinearGaussian:
        """A model with random weights and a noise variance of 0.25."""
        return cls(
            _normal(x, z, generator=generator),
            _normal(x, c, generator=generator),
            torch.tensor(0.25, dtype=torch.float64),
        )

    def sample(
        self, c: Float[Tensor, "N c"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "N x"]:
        """One x for each condition."""
        z = _normal(len(c), self.W.shape[1], generator=generator)
        noise = _normal(len(c), len(self.W), generator=generator)
        return z @ self.W.T + c @ self.V.T + self.variance.sqrt() * noise

    def log_likelihood(
        self, x: Float[Tensor, "N x"], c: Float[Tensor, "N c"]
    ) -> Float[Tensor, " N"]:
        """log p(x | c) = log N(x; V c, W W^T + s^2 I), in nats."""
        covariance = self.W @ self.W.T + self.variance * torch.eye(len(self.W)).to(self.W)
        return MultivariateNormal(c @ self.V.T, covariance).log_prob(x)

    def posterior(
        self, x: Float[Tensor, "N x"], c: Float[Tensor, "N c"]
    ) -> tuple[Float[Tensor, "N z"], Float[Tensor, "z z"]]:
        """Mean and covariance of p(z | x, c); the covariance is the same for every x."""
        # S = (I + W^T W / s^2)^-1,  mean = S W^T (x - V c) / s^2
        precision = torch.eye(self.W.shape[1]).to(self.W) + self.W.T @ self.W / self.variance
        covariance = torch.linalg.inv(precision)
        return (x - c @ self.V.T) @ self.W @ covariance / self.variance, covariance

    def reconstruction(
        self,
        x: Float[Tensor, "N x"],
        c: Float[Tensor, "N c"],
        mean: Float[Tensor, "N z"],
        covariance: Float[Tensor, "z z"],
    ) -> Float[Tensor, " N"]:
        """E_q log p(x | z, c) in nats, for q = N(mean, covariance)."""
        # The expected squared error is that of the mean plus what the spread of q adds.
        error = (x - mean @ self.W.T - c @ self.V.T).square().sum(dim=-1)
        error = error + torch.trace(self.W @ covariance @ self.W.T)
        log_normaliser = 0.5 * len(self.W) * torch.log(2 * math.pi * self.variance)
        return -log_normaliser - error / (2 * self.variance)

    def kl_to_prior(
        self, mean: Float[Tensor, "N z"], covariance: Float[Tensor, "z z"]
    ) -> Float[Tensor, " N"]:
        """KL(N(mean, covariance) || p(z)) in nats."""
        return _kl(mean, covariance, torch.zeros_like(mean))

    def elbo(
        self,
        x: Float[Tensor, "N x"],
        c: Float[Tensor, "N c"],
        mean: Float[Tensor, "N z"],
        covariance: Float[Tensor, "z z"],
    ) -> Float[Tensor, " N"]:
        """L = reconstruction - KL to the prior, in nats, for q = N(mean, covariance)."""
        return self.reconstruction(x, c, mean, covariance) - self.kl_to_prior(mean, covariance)


@dataclass(frozen=True)
class StateSpace:
    """A linear "video model": frames x_t are vectors, the recurrent state h_t sums the latents.

        h_t = F h_{t-1} + z_t,                 h_0 = 0
        x_t = A x_{t-1} + H h_t + noise,       noise ~ N(0, variance I)
        z_t ~ N(K x_{t-1}, I)                  K = 0: the fixed prior N(0, I)

    Because h_t contains z_1 .. z_t, the frame x_t depends on all of them. x_0 is given. float64.
    """

    F: Float[Tensor, "z z"]
    H: Float[Tensor, "x z"]
    A: Float[Tensor, "x x"]
    variance: Float[Tensor, ""]
    K: Float[Tensor, "z x"] | None = None
    """of a learned prior; None is the fixed prior"""

    @classmethod
    def random(
        cls, x: int = 3, z: int = 1, *, generator: torch.Generator | None = None
    ) -> StateSpace:
        """A model with random weights whose state fades slowly."""
        return cls(
            F=0.8 * torch.linalg.qr(_normal(z, z, generator=generator)).Q,
            H=_normal(x, z, generator=generator),
            A=0.9 * torch.linalg.qr(_normal(x, x, generator=generator)).Q,
            variance=torch.tensor(0.5, dtype=torch.float64),
        )

    def sample(self, frames: int, generator: torch.Generator | None = None) -> Tensor:
        """x_0 .. x_{frames - 1}, (frames, x); x_0 is drawn from N(0, I)."""
        x = [_normal(len(self.A), generator=generator)]
        h = torch.zeros(len(self.F), dtype=torch.float64)
        for _ in range(1, frames):
            prior = torch.zeros_like(h) if self.K is None else self.K @ x[-1]
            h = self.F @ h + prior + _normal(len(h), generator=generator)
            noise = self.variance.sqrt() * _normal(len(self.A), generator=generator)
            x.append(self.A @ x[-1] + self.H @ h + noise)
        return torch.stack(x)

    def linear_form(
        self, x: Float[Tensor, "T x"], *, free_running: bool = False
    ) -> tuple[Float[Tensor, " Sx"], Float[Tensor, "Sx Sz"], Float[Tensor, " Sz"]]:
        """(y, M, b) such that y = M z + noise with z ~ N(b, I), z all latents in one vector.

        Teacher forced, y_t = x_t - A x_{t-1}: the true frame before it is known. Free-running, the
        frame fed back is A x^_{t-1} + H h_t instead, so that y_t = x_t - A^t x_0, and M holds how
        each latent reaches x_t through the frames fed back, too.
        """
        steps, size = len(x) - 1, len(self.F)
        response = torch.zeros(steps, steps, len(self.A), size, dtype=torch.float64)
        for s in range(steps):
            h = torch.eye(size, dtype=torch.float64)
            fed = torch.zeros(len(self.A), size, dtype=torch.float64)
            for t in range(s, steps):
                fed = self.H @ h + (self.A @ fed if free_running else 0)
                response[t, s] = fed
                h = self.F @ h
        known, before = [], x[0]
        for t in range(1, len(x)):
            before = self.A @ (before if free_running else x[t - 1])
            known.append(x[t] - before)
        prior = x[:-1].new_zeros(steps, size) if self.K is None else x[:-1] @ self.K.T
        matrix = response.permute(0, 2, 1, 3).reshape(steps * len(self.A), steps * size)
        return torch.cat(known), matrix, prior.flatten()

    def log_likelihood(
        self, x: Float[Tensor, "T x"], *, free_running: bool = False
    ) -> Float[Tensor, ""]:
        """log p(x_1 .. x_{T-1} | x_0) in nats."""
        y, matrix, prior = self.linear_form(x, free_running=free_running)
        covariance = matrix @ matrix.T + self.variance * torch.eye(len(y)).to(y)
        return MultivariateNormal(matrix @ prior, covariance).log_prob(y)

    def kalman_log_likelihood(self, x: Float[Tensor, "T x"]) -> Float[Tensor, ""]:
        """The same, teacher forced, by the Kalman filter: one frame at a time (Kalman 1960)."""
        mean = torch.zeros(len(self.F)).to(x)
        spread = torch.zeros(len(self.F), len(self.F)).to(x)
        total = torch.zeros(()).to(x)
        for t in range(1, len(x)):
            # predict h_t from h_{t-1}
            prior = torch.zeros_like(mean) if self.K is None else self.K @ x[t - 1]
            mean = self.F @ mean + prior
            spread = self.F @ spread @ self.F.T + torch.eye(len(self.F)).to(x)
            # p(x_t | x_{<t}) = N(A x_{t-1} + H mean, H spread H^T + s^2 I)
            covariance = self.H @ spread @ self.H.T + self.variance * torch.eye(len(self.A)).to(x)
            expected = self.A @ x[t - 1] + self.H @ mean
            total = total + MultivariateNormal(expected, covariance).log_prob(x[t])
            # correct h_t by x_t
            gain = torch.linalg.solve(covariance, self.H @ spread).T
            mean = mean + gain @ (x[t] - expected)
            spread = spread - gain @ self.H @ spread
        return total

    def posterior(
        self, x: Float[Tensor, "T x"], *, free_running: bool = False
    ) -> tuple[Float[Tensor, " Sz"], Float[Tensor, "Sz Sz"]]:
        """Mean and covariance of p(z_1 .. z_{T-1} | x), the latents in one vector."""
        y, matrix, prior = self.linear_form(x, free_running=free_running)
        precision = torch.eye(len(prior)).to(y) + matrix.T @ matrix / self.variance
        covariance = torch.linalg.inv(precision)
        return covariance @ (prior + matrix.T @ y / self.variance), covariance

    def elbo(
        self,
        x: Float[Tensor, "T x"],
        mean: Float[Tensor, " Sz"],
        covariance: Float[Tensor, "Sz Sz"],
        *,
        free_running: bool = False,
    ) -> Float[Tensor, ""]:
        """E_q log p(X | Z) - KL(q || p(Z)) in nats, for q(Z) = N(mean, covariance)."""
        y, matrix, prior = self.linear_form(x, free_running=free_running)
        error = (y - matrix @ mean).square().sum() + torch.trace(matrix @ covariance @ matrix.T)
        log_normaliser = 0.5 * len(y) * torch.log(2 * math.pi * self.variance)
        reconstruction = -log_normaliser - error / (2 * self.variance)
        return reconstruction - _kl(mean, covariance, prior)

    def filtered(self, x: Float[Tensor, "T x"]) -> tuple[Tensor, Tensor]:
        """q(Z) = prod_t p(z_t | x_{0:t}): each latent sees the frames up to its own target. Mean,
        (S z), and covariance with zeros between time steps."""
        size, steps = len(self.F), len(x) - 1
        means, blocks = [], []
        for t in range(1, len(x)):
            mean, covariance = self.posterior(x[: t + 1])
            means.append(mean[-size:])
            blocks.append(covariance[-size:, -size:])
        assert len(blocks) == steps
        return torch.cat(means), torch.block_diag(*blocks)

    def factorised(self, x: Float[Tensor, "T x"]) -> tuple[Tensor, Tensor]:
        """The best q(Z) = prod_t q(z_t) that sees all frames: mean field, the exact posterior's
        mean with the diagonal blocks of its precision (Bishop 2006, section 10.1)."""
        size = len(self.F)
        mean, covariance = self.posterior(x)
        precision = torch.linalg.inv(covariance)
        starts = range(0, len(mean), size)
        blocks = [torch.linalg.inv(precision[s : s + size, s : s + size]) for s in starts]
        return mean, torch.block_diag(*blocks)
