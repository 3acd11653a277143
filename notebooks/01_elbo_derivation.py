# %% [markdown]
# # 1 · The objective: a CVAE's ELBO, for a video
#
# A model that predicts video must say how likely a future is. With a latent variable it cannot
# say so exactly, and is trained on a bound instead: the *evidence lower bound*, ELBO. This page
# derives it, starting from EM, one step and one reason at a time. Each step that can be checked
# by a number is followed by a cell that checks it.
#
# | symbol | meaning |
# | --- | --- |
# | $X$ | what is observed: the frames $x_0, \dots, x_{T-1}$ of a clip |
# | $C$ | the condition: $c_0, \dots, c_{T-1}$, what the robot is told to do |
# | $Z$ | the latent variable: $z_1, \dots, z_{T-1}$, what neither past nor condition tells |
# | $\theta$ | parameters of the generator $p(X \mid Z, C; \theta)$ |
# | $\phi$ | parameters of the approximate posterior $q(Z \mid X, C; \phi)$ |

# %%
import math

import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

import labkit

labkit.lab_setup(seed=1)
torch.set_default_dtype(torch.float64)

# %% [markdown]
# ## 1.1 From the likelihood to EM's two terms
#
# We want $\theta$ that makes the data likely: maximise $\log p(X \mid C; \theta)$. The sum over
# every latent, $p(X \mid C; \theta) = \int p(X \mid Z, C; \theta)\, p(Z \mid C)\, dZ$, cannot be
# done for a neural network. So we go another way.
#
# **Step 1. The product rule**, solved for the quantity we want. It holds for *every* $Z$:
#
# $$\log p(X \mid C; \theta) = \log p(X, Z \mid C; \theta) - \log p(Z \mid X, C; \theta)$$
#
# **Step 2. Average both sides over any density** $q(Z \mid X, C; \phi)$. The left side has no
# $Z$ in it, and a density integrates to 1, so it stays as it is:
#
# $$\log p(X \mid C; \theta) = \int q \log p(X, Z \mid C; \theta)\, dZ
#   - \int q \log p(Z \mid X, C; \theta)\, dZ$$
#
# **Step 3. Subtract and add** $\int q \log q\, dZ$, one to each term:
#
# $$\log p(X \mid C; \theta) =
# \underbrace{\int q \log p(X, Z \mid C; \theta)\, dZ - \int q \log q\, dZ}_{L(X, q, \theta \mid C)}
# + \underbrace{\int q \log q\, dZ - \int q \log p(Z \mid X, C; \theta)\, dZ}_
# {\mathrm{KL}\left(q(Z \mid X, C; \phi)\,\|\,p(Z \mid X, C; \theta)\right)}$$
#
# **Step 4. KL is never negative** (Jensen's inequality: the logarithm is concave), so $L$ is a
# lower bound of the log likelihood, whatever $q$ is:
#
# $$L(X, q, \theta \mid C) \;\le\; \log p(X \mid C; \theta)$$

# %% [markdown]
# ## 1.2 What EM does with it
#
# - **E step**: hold $\theta$, choose $q$. The sum of the two terms does not depend on $q$, so to
#   raise $L$ is to lower the KL. At $q = p(Z \mid X, C; \theta)$ it is 0 and the bound is tight.
# - **M step**: hold $q$, raise $L$ over $\theta$. The likelihood rises at least as much.
#
# For a network the true posterior $p(Z \mid X, C; \theta)$ is out of reach, so the E step cannot
# be done exactly. A **variational autoencoder** puts a second network in its place,
# $q(Z \mid X, C; \phi)$, and raises $L$ over $\theta$ and $\phi$ at once by its gradient.

# %% [markdown]
# ## 1.3 The form that is computed
#
# **Step 5. The product rule once more**, now in the direction in which the model generates:
# $p(X, Z \mid C; \theta) = p(X \mid Z, C; \theta)\, p(Z \mid C)$. Put into $L$:
#
# $$\begin{aligned}
# L(X, q, \theta \mid C)
# &= \int q \log p(X \mid Z, C; \theta)\, dZ + \int q \log p(Z \mid C)\, dZ - \int q \log q\, dZ \\
# &= \underbrace{\mathbb{E}_{Z \sim q(Z \mid X, C; \phi)} \log p(X \mid Z, C; \theta)}_
# {\text{reconstruction}}
# \;-\; \underbrace{\mathrm{KL}\left(q(Z \mid X, C; \phi)\,\|\,p(Z \mid C)\right)}_
# {\text{distance to the prior}}
# \end{aligned}$$
#
# There are now two KL terms, and they are not the same. The one of step 3 compares $q$ with the
# *posterior*: it is the gap of the bound, and nobody can compute it. The one of step 5 compares
# $q$ with the *prior*: it is part of the bound, and it has a closed form.

# %% [markdown]
# ## 1.4 The closed form of the KL
#
# Both $q$ and the prior are Gaussians with independent dimensions, so the KL is a sum over
# dimensions, and one is enough. By definition
# $\mathrm{KL}(q \| p) = \mathbb{E}_q[\log q - \log p]$, and
#
# $$\mathbb{E}_q \log q = -\tfrac12 \log 2\pi\sigma_q^2
#   - \frac{\mathbb{E}_q (z - \mu_q)^2}{2\sigma_q^2} = -\tfrac12 \log 2\pi\sigma_q^2 - \tfrac12$$
#
# since the expected squared distance from the mean is the variance. For the other term,
# $\mathbb{E}_q (z - \mu_p)^2 = \sigma_q^2 + (\mu_q - \mu_p)^2$, so
#
# $$\mathbb{E}_q \log p = -\tfrac12 \log 2\pi\sigma_p^2
#   - \frac{\sigma_q^2 + (\mu_q - \mu_p)^2}{2\sigma_p^2}$$
#
# Their difference is
#
# $$\mathrm{KL}(q \| p) = \frac12 \left[ \log\frac{\sigma_p^2}{\sigma_q^2}
#   + \frac{\sigma_q^2 + (\mu_q - \mu_p)^2}{\sigma_p^2} - 1 \right]
# \qquad\text{and for } p = \mathcal{N}(0, 1):\quad
# \frac12 \left[ \mu_q^2 + \sigma_q^2 - \log \sigma_q^2 - 1 \right]$$


# %%
def kl_gaussian(mean, deviation):
    """KL(N(mean, deviation^2) || N(0, 1)), summed over dimensions."""
    variance = deviation**2
    return 0.5 * (mean**2 + variance - variance.log() - 1).sum()


q = Normal(torch.tensor([0.5, -1.0, 0.0]), torch.tensor([0.8, 0.3, 1.0]))
prior = Normal(torch.zeros(3), torch.ones(3))

# %% [markdown]
# Three ways to the same number: the formula, PyTorch's own, and the definition, as an average of
# $\log q - \log p$ over a million draws from $q$. The last dimension equals the prior, and adds 0.

# %%
z = q.sample((1_000_000,))
monte_carlo = (q.log_prob(z) - prior.log_prob(z)).sum(dim=-1).mean()

print(f"formula              {kl_gaussian(q.mean, q.stddev):.6f}")
print(f"torch.distributions  {kl_divergence(q, prior).sum():.6f}")
print(f"a million draws      {monte_carlo:.2f}")

# %% [markdown]
# ## 1.5 A model small enough to know everything
#
# Let $z$ have 2 dimensions and $x$ have 4, with everything linear and Gaussian:
#
# $$p(z) = \mathcal{N}(0, I), \qquad p(x \mid z, c) = \mathcal{N}(W z + V c,\; s^2 I)$$
#
# Then the likelihood and the posterior are known exactly,
#
# $$p(x \mid c) = \mathcal{N}(V c,\; W W^\top + s^2 I), \qquad
#   p(z \mid x, c) = \mathcal{N}(\Sigma\, W^\top (x - V c) / s^2,\; \Sigma), \quad
#   \Sigma = (I + W^\top W / s^2)^{-1}$$
#
# and the two sides of each equation can be put beside each other.

# %%
W, V, s = torch.randn(4, 2), torch.randn(4, 3), 0.5
c = torch.randn(3)
x = W @ torch.randn(2) + V @ c + s * torch.randn(4)

log_p = MultivariateNormal(V @ c, W @ W.T + s**2 * torch.eye(4)).log_prob(x)


def posterior(x, c):
    """p(z | x, c), exactly."""
    covariance = torch.linalg.inv(torch.eye(2) + W.T @ W / s**2)
    return MultivariateNormal(covariance @ W.T @ (x - V @ c) / s**2, covariance)


# %% [markdown]
# The two terms of step 5, both in closed form. In the first, the expected squared error is that
# of the mean plus what the spread of $q$ adds, $\mathrm{tr}(W \Sigma_q W^\top)$.


# %%
def reconstruction(q):
    """E_q log p(x | z, c)."""
    spread = torch.trace(W @ q.covariance_matrix @ W.T)
    squared_error = ((x - W @ q.mean - V @ c) ** 2).sum() + spread
    return -0.5 * 4 * math.log(2 * math.pi * s**2) - squared_error / (2 * s**2)


prior = MultivariateNormal(torch.zeros(2), torch.eye(2))
q = MultivariateNormal(torch.tensor([0.3, -0.2]), torch.diag(torch.tensor([0.2, 0.4])))
elbo = reconstruction(q) - kl_divergence(q, prior)

# %% [markdown]
# This $q$ is just a guess. Step 3 still holds for it, to the last digit.

# %%
gap = kl_divergence(q, posterior(x, c))

print(f"ELBO                  {elbo:.6f}")
print(f"KL(q || posterior)    {gap:.6f}")
print(f"their sum             {elbo + gap:.6f}")
print(f"log p(x | c)          {log_p:.6f}")

# %% [markdown]
# ## 1.6 Which $q$?
#
# The bound holds for any $q$, whatever it looks at. What it looks at decides how tight it can be.
# $q(Z \mid C)$ has not seen the frames, $q(Z \mid X)$ has not seen the condition (here: it takes
# $c = 0$), and only $q(Z \mid X, C)$ can reach the posterior. A derivation must therefore carry
# one of them from the first line to the last. The course's sample code leaves $C$ out of the
# posterior's input: allowed, and a looser bound.

# %%
candidates = {
    "q(Z | C)": prior,
    "q(Z | X)": posterior(x, torch.zeros(3)),
    "q(Z | X, C)": posterior(x, c),
}
for name, q_candidate in candidates.items():
    bound = reconstruction(q_candidate) - kl_divergence(q_candidate, prior)
    print(f"{name:<12} is {abs(log_p - bound):.4f} below log p(x | c)")

# %% [markdown]
# ## 1.7 Three slips
#
# **"$\log q - \log p = \log(q - p)$".** A difference of logarithms is the logarithm of a
# *quotient*. The logarithm of the difference does not even exist where $q < p$.

# %%
here = torch.tensor([1.0, 1.0])
q_here, p_here = q.log_prob(here).exp(), prior.log_prob(here).exp()

print(f"log q - log p   {q_here.log() - p_here.log():.4f}")
print(f"log(q / p)      {(q_here / p_here).log():.4f}")
print(f"log(q - p)      {(q_here - p_here).log():.4f}")

# %% [markdown]
# **A KL whose sign turns between two lines.** In $L$ the KL to the prior is subtracted. With a
# plus the result is no bound: it rises without end as $q$ is made narrower.

# %%
print(f"log p(x | c)                 {log_p:.4f}")
print(f"reconstruction - KL          {elbo:.4f}")
far = MultivariateNormal(q.mean, 1e-12 * torch.eye(2))
print(f"with a plus, and a narrow q  {reconstruction(far) + kl_divergence(far, prior):.4f}")

# %% [markdown]
# **$q(Z \mid C)$, $q(Z \mid X)$ and $q(Z \mid X, C)$ in one line**, as if they were one thing.
# Section 1.6 shows that they are not. The same care is due to $p$: $p(Z \mid C)$ is the prior,
# $p(Z \mid X, C; \theta)$ the posterior, and $p(X \mid Z, C; \theta)$ is not $p(X \mid C; \theta)$.

# %% [markdown]
# ## 1.8 The form for a sequence
#
# A clip is made one frame at a time: $x_t$ from the frames before it, the latents so far and the
# condition that leads to it, $c_{t-1}$. **Step 6. The chain rule** along time, given $x_0$; a
# fixed prior $p(z_t) = \mathcal{N}(0, I)$ looks at nothing:
#
# $$p(X, Z \mid C; \theta)
#   = \prod_{t=1}^{T-1} p(x_t \mid x_{<t}, z_{1:t}, c_{<t}; \theta)\; p(z_t)$$
#
# **Step 7. Choose $q$ to factorise likewise.** The posterior at time $t$ looks at the frames up
# to and with $x_t$, its target, and at no latent:
#
# $$q(Z \mid X, C; \phi) = \prod_{t=1}^{T-1} q_\phi(z_t \mid x_{1:t}, c)$$
#
# That is a choice, and it costs something: the true posterior of $z_t$ also depends on the frames
# *after* $t$, so the gap of step 3 does not vanish, however large the network.
#
# **Step 8. Put both into step 5.** The logarithm of a product is a sum, and a $z_t$ that a term
# does not contain integrates to 1:
#
# $$L = \sum_{t=1}^{T-1} \Big[\;
# \mathbb{E}_{q_\phi(z_{1:t} \mid x_{1:t}, c)} \log p(x_t \mid x_{<t}, z_{1:t}, c_{<t}; \theta)
# \;-\; \mathrm{KL}\left(q_\phi(z_t \mid x_{1:t}, c) \,\|\, p(z_t)\right) \Big]$$
#
# One sample of each $z_t$ stands for the expectation. It is drawn as $z_t = \mu_t + \sigma_t
# \epsilon_t$ with $\epsilon_t \sim \mathcal{N}(0, I)$, so that the gradient reaches $\phi$ through
# $\mu_t$ and $\sigma_t$. In a *prediction* there is no $x_t$ to look at, and $z_t$ comes from the
# prior: this is why $q$ is kept near it.

# %% [markdown]
# ## 1.9 What MSE and $\beta$ mean
#
# The code minimises mean squared error $+\ \beta \cdot$ KL. Let each of the $D$ numbers of a frame
# have an observation noise $\sigma$. Then
#
# $$-\log p(x_t \mid \cdot) = \frac{\lVert x_t - \hat x_t \rVert^2}{2 \sigma^2} + \text{const}
#   = \frac{D}{2\sigma^2}\,\mathrm{MSE} + \text{const}$$
#
# where MSE is the *mean* over the $D$ numbers, while the KL is a *sum* over latent dimensions.
# Multiply $-L$ by $2\sigma^2 / D$, which moves no minimum:
#
# $$\mathrm{MSE} + \frac{2\sigma^2}{D}\,\mathrm{KL}
# \qquad\text{so}\qquad \beta = \frac{2\sigma^2}{D}, \quad \sigma^2 = \frac{\beta D}{2}$$
#
# A frame of $64 \times 64$ pixels with 3 channels has $D = 12288$.

# %%
D = 64 * 64 * 3

for beta in (1.0, 1e-4, 1e-6):
    print(f"beta {beta:<6g}  sigma {math.sqrt(beta * D / 2):.3f}")

# %% [markdown]
# Pixels lie between 0 and 1, so the usual $\beta = 10^{-4}$ says that a pixel is known to within
# 0.78: nothing at all. Under such a weight the latent is cheaper left unused. A weight that fits
# a predictor's own error is the one whose $\sigma^2$ *is* its mean squared error (the
# $\sigma$-VAE, Rybkin et al. 2020). At 24.5 dB that is

# %%
mean_squared_error = 10 ** (-24.5 / 10)
print(f"MSE {mean_squared_error:.5f}, beta {2 * mean_squared_error / D:.1e}")

# %% [markdown]
# ## 1.10 The same in the package
#
# `labkit.model.kl_divergence` is the formula of 1.4 between any two diagonal Gaussians, and
# `labkit.training.negative_elbo` is 1.9 with 1.8 inside: squared error averaged over pixels, KL
# summed over latent dimensions, both averaged over time steps and clips.

# %%
from labkit.model import Gaussian, Rollout
from labkit.training import negative_elbo

truth, predicted = torch.rand(2, 3, 3, 64, 64), torch.rand(2, 3, 3, 64, 64)
posteriors = Gaussian(torch.randn(2, 3, 5), torch.randn(2, 3, 5))
priors = Gaussian(torch.zeros(2, 3, 5), torch.zeros(2, 3, 5))
objective = negative_elbo(Rollout(predicted, posteriors, priors), truth, kl_weight=1e-4)

deviations = torch.exp(0.5 * posteriors.log_variance)
by_hand = kl_gaussian(posteriors.mean, deviations) / (2 * 3)
print(f"KL    {objective.kl:.6f}  by hand {by_hand:.6f}")
print(
    f"loss  {objective.loss:.6f}  by hand {(truth - predicted).pow(2).mean() + 1e-4 * by_hand:.6f}"
)
