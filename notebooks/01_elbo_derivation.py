# %% [markdown]
# # 1 · The objective: a CVAE's ELBO, for a video
#
# A video model should say how likely a future is. If the model has a latent variable, this
# likelihood cannot be computed. So the model is trained on a lower bound of it: the *evidence lower
# bound*, ELBO. This page derives the bound, starting from EM (expectation maximisation). Each step
# is followed by a cell that checks it on a small model, for which everything is known exactly.
#
# **After this page you can**
#
# 1. derive the ELBO of a conditional VAE from EM, with a reason for each line;
# 2. run EM on a small model, and say which quantity rises in which step;
# 3. write the KL of two Gaussians, and name three errors that are often made in the derivation;
# 4. write the ELBO of a sequence, and say what in it is assumed and what is the chain rule;
# 5. translate the training weight $\beta$ into an observation noise $\sigma$.
#
# **You need** probability densities, expectations, the Gaussian, matrices, and some PyTorch.
#
# **Time**: about 60 minutes to read and to solve the exercises; about 10 seconds to run.
#
# | symbol | meaning |
# | --- | --- |
# | $X$ | what is observed: the frames $x_0, \dots, x_{T-1}$ of a clip |
# | $C$ | the condition: $c_0, \dots, c_{T-1}$, the robot's actions and positions |
# | $Z$ | the latent variable: $z_1, \dots, z_{T-1}$, what neither the past nor the condition says |
# | $\theta$ | the parameters of the generator $p(X \mid Z, C; \theta)$ |
# | $q(Z)$ | any density of $Z$; later a network's, $q(Z \mid X, C; \phi)$ with parameters $\phi$ |
# | $x_{<t}$, $z_{1:t}$ | the frames $x_0, \dots, x_{t-1}$; the latents $z_1, \dots, z_t$ |
#
# All logarithms are natural. Their unit is the *nat*.

# %%
import dataclasses
import math

import matplotlib.pyplot as plt
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

import labkit
from labkit.course.checks import check_em, check_kl_gaussian, check_sequence_elbo
from labkit.course.linear_gaussian import LinearGaussian, StateSpace
from labkit.views import style

labkit.lab_setup(seed=1)
torch.set_default_dtype(torch.float64)

# %% [markdown]
# ## 1.1 A model for which everything is known
#
# The page checks its steps on a small model. $z$ has 2 dimensions, $x$ has 4, and $c$ has 3.
# Everything is linear and Gaussian:
#
# $$p(z) = \mathcal{N}(0, I), \qquad p(x \mid z, c) = \mathcal{N}(W z + V c,\; s^2 I)$$
#
# Its likelihood and its posterior have closed forms:
#
# $$p(x \mid c) = \mathcal{N}(V c,\; W W^\top + s^2 I), \qquad
#   p(z \mid x, c) = \mathcal{N}\left(\Sigma\, W^\top (x - V c) / s^2,\; \Sigma\right), \quad
#   \Sigma = (I + W^\top W / s^2)^{-1}$$
#
# $W$ and $V$ are matrices, and $s$ is the standard deviation of the noise. For a model with a
# neural network, neither has a closed form. This is why the rest of the page is needed.

# %%
chance = torch.Generator().manual_seed(1)
model = LinearGaussian.random(x=4, z=2, c=3, generator=chance)
c = torch.randn(1, 3, generator=chance)
x = model.sample(c, chance)

log_p = model.log_likelihood(x, c)[0]
mean, covariance = model.posterior(x, c)
posterior = MultivariateNormal(mean[0], covariance)
print(f"log p(x | c) = {log_p:.4f} nats")

# %% [markdown]
# $z$ has only two dimensions, so the integrals over $z$ are computed as sums over a fine grid. As
# $q$ we take a mixture of two Gaussians. It is neither Gaussian nor near the posterior. This shows
# that the first steps hold for *any* density.

# %%
prior = MultivariateNormal(torch.zeros(2), torch.eye(2))
centres = MultivariateNormal(torch.tensor([[1.0, 0.5], [-0.5, 0.0]]), 0.2 * torch.eye(2))
q = MixtureSameFamily(Categorical(torch.tensor([0.3, 0.7])), centres)

side = torch.linspace(-5, 5, 501)
grid = torch.cartesian_prod(side, side)


def integral(values):
    """The integral over z of a function given on the grid."""
    return values.sum() * (side[1] - side[0]) ** 2


print(f"integral of q: {integral(q.log_prob(grid).exp()):.6f}")

# %% [markdown]
# The grid is fine enough: the density integrates to 1.
#
# ## 1.2 From the likelihood to EM's two terms
#
# We want the $\theta$ that makes the data most likely, that is, we maximise $\log p(X \mid C;
# \theta)$. The integral $p(X \mid C; \theta) = \int p(X \mid Z, C; \theta)\, p(Z \mid C)\, dZ$
# cannot be computed for a network, so we need another way.
#
# **Step 1. The product rule**, solved for the wanted quantity. It holds for *every* value of $Z$:
#
# $$\log p(X \mid C; \theta) = \log p(X, Z \mid C; \theta) - \log p(Z \mid X, C; \theta)$$


# %%
def log_joint(z):
    """log p(x, z | c) of the small model, for each row of z."""
    likelihood = MultivariateNormal((c @ model.V.T)[0], model.variance * torch.eye(4))
    return likelihood.log_prob(x - z @ model.W.T) + prior.log_prob(z)


for z in torch.tensor([[0.0, 0.0], [1.0, -1.0], [-2.0, 0.5]]):
    step_1 = log_joint(z[None])[0] - posterior.log_prob(z)
    print(f"z = {z.tolist()!s:<13} log p(x, z | c) - log p(z | x, c) = {step_1:.4f}")
    assert torch.isclose(step_1, log_p)

# %% [markdown]
# Three values of $z$ give the same number, and it is $\log p(x \mid c)$.
#
# **Step 2. Average both sides over an arbitrary density** $q(Z)$. The left side does not contain
# $Z$, and a density integrates to 1, so it does not change:
#
# $$\log p(X \mid C; \theta) = \int q(Z) \log p(X, Z \mid C; \theta)\, dZ
#   - \int q(Z) \log p(Z \mid X, C; \theta)\, dZ$$

# %%
log_q, log_posterior = q.log_prob(grid), posterior.log_prob(grid)
first = integral(log_q.exp() * log_joint(grid))
second = integral(log_q.exp() * log_posterior)

print(f"{first:.4f} - ({second:.4f}) = {first - second:.4f}")
assert torch.isclose(first - second, log_p)

# %% [markdown]
# The difference of the two averages is again $\log p(x \mid c)$.
#
# **Step 3. Subtract and add** $\int q \log q\, dZ$, so that each term gets one:
#
# $$\log p(X \mid C; \theta) =
# \underbrace{\int q \log p(X, Z \mid C; \theta)\, dZ - \int q \log q\, dZ}_{L(X, q, \theta \mid C)}
# + \underbrace{\int q \log q\, dZ - \int q \log p(Z \mid X, C; \theta)\, dZ}_
# {\mathrm{KL}\left(q(Z)\,\|\,p(Z \mid X, C; \theta)\right)}$$

# %%
entropy_term = integral(log_q.exp() * log_q)
L, gap = first - entropy_term, entropy_term - second

print(f"L {L:.4f} + KL {gap:.4f} = {L + gap:.4f}")
assert torch.isclose(L + gap, log_p)

# %% [markdown]
# **Step 4. The KL is never negative.** The logarithm is concave, so the mean of a logarithm is at
# most the logarithm of the mean (Jensen's inequality). In one line:
#
# $$-\mathrm{KL}(q \,\|\, p) = \mathbb{E}_q \log \frac{p(Z \mid X, C; \theta)}{q(Z)}
#   \;\le\; \log \mathbb{E}_q \frac{p(Z \mid X, C; \theta)}{q(Z)}
#   = \log \int p(Z \mid X, C; \theta)\, dZ = \log 1 = 0$$
#
# Hence $L \le \log p(X \mid C; \theta)$ for every $q$: $L$ is a lower bound.

# %%
ratio = (log_posterior - log_q).exp()
mean_of_log = integral(log_q.exp() * (log_posterior - log_q))
log_of_mean = torch.log(integral(log_q.exp() * ratio))

print(f"mean of the logarithm {mean_of_log:.4f}, logarithm of the mean {log_of_mean.abs():.4f}")
assert mean_of_log < log_of_mean + 1e-9
assert log_p > L

# %% [markdown]
# The left number is $-\mathrm{KL}$, the right one is $\log 1$. The bound holds for this $q$.
#
# ## 1.3 What EM does with the two terms
#
# $L$ depends on $q$ and on $\theta$. EM (Dempster et al. 1977) makes $L$ larger in two steps that
# alternate.
#
# - **E step**: keep $\theta$, choose $q$. The sum $L + \mathrm{KL}$ does not depend on $q$, so $L$
#   is largest where the KL is 0, at $q(Z) = p(Z \mid X, C; \theta)$. Then $L = \log p$.
# - **M step**: keep $q$, choose the $\theta$ that makes $L$ largest. $L$ does not fall, and the KL
#   is at least 0 afterwards, so $\log p$ does not fall either.
#
# In the small model both steps have a closed form. With $y_n = x_n - V c_n$, and $V$ known:
#
# $$\text{E:}\quad \Sigma = (I + W^\top W / s^2)^{-1}, \qquad m_n = \Sigma W^\top y_n / s^2$$
#
# $$\text{M:}\quad W = \Big(\sum_n y_n m_n^\top\Big) \Big(\sum_n m_n m_n^\top + \Sigma\Big)^{-1},
#   \qquad s^2 = \frac{1}{N D} \sum_n \left[ \lVert y_n - W m_n \rVert^2
#   + \mathrm{tr}(W \Sigma W^\top) \right]$$
#
# $N$ is the number of data points and $D$ the dimension of $x$. In the M step the new $W$ is used
# for the new $s^2$.
#
# **Exercise 1.** Write both steps. `model` has the attributes `W` (D, z), `V` (D, c) and
# `variance`, which is $s^2$; `x` is (N, D), `c` is (N, c). The mean has one row for each data
# point.


# %% nbgrader={"grade": false, "grade_id": "e-step", "locked": false, "schema_version": 3, "solution": true, "task": false}
def e_step(x, c, model):
    """Mean (N, z) and covariance (z, z) of p(z | x, c)."""
    ### BEGIN SOLUTION
    y = x - c @ model.V.T
    precision = torch.eye(model.W.shape[1]).to(x) + model.W.T @ model.W / model.variance
    covariance = torch.linalg.inv(precision)
    return y @ model.W @ covariance / model.variance, covariance
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "m-step", "locked": false, "schema_version": 3, "solution": true, "task": false}
def m_step(x, c, model, mean, covariance):
    """W (D, z) and the variance s^2 that make L largest."""
    ### BEGIN SOLUTION
    y = x - c @ model.V.T
    W = y.T @ mean @ torch.linalg.inv(mean.T @ mean + len(x) * covariance)
    spread = torch.trace(W @ covariance @ W.T)
    return W, ((y - mean @ W.T).square().sum(dim=1) + spread).mean() / x.shape[1]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-em", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check_em(e_step, m_step)

# %% [markdown]
# Now run EM on 40 data points of the model, from another $W$ and $s^2$. Before and after each step
# we note $L$ and the KL, per data point.

# %%
C = torch.randn(40, 3, generator=chance)
X = model.sample(C, chance)
start = LinearGaussian.random(x=4, z=2, generator=chance)
fitted = LinearGaussian(start.W, model.V, torch.tensor(1.0))
mean, covariance = torch.zeros(40, 2), torch.eye(2)  # q = the prior

# %%
history = []
for name in ("E1", "M1", "E2", "M2", "E3", "M3", "E4", "M4"):
    if name.startswith("E"):
        mean, covariance = e_step(X, C, fitted)
    else:
        W, variance = m_step(X, C, fitted, mean, covariance)
        fitted = dataclasses.replace(fitted, W=W, variance=variance)
    bound = fitted.elbo(X, C, mean, covariance).mean()
    history.append((name, bound, fitted.log_likelihood(X, C).mean() - bound))

# %%
names, bounds, gaps = zip(*history, strict=True)
bottom = min(bounds) - 1
plt.figure(figsize=(7, 3))
heights = [bound - bottom for bound in bounds]
plt.bar(names, heights, bottom=bottom, label="L", color=style.BLUE)
plt.bar(names, gaps, bottom=bounds, label="KL(q || posterior)", color=style.ORANGE)
plt.xlabel("step and round")
plt.ylabel("nats per data point")
plt.title("The top of each bar is log p")
plt.legend(loc="upper left", ncols=2)
plt.ylim(top=max(bounds) + 0.8)
plt.show()

# %% [markdown]
# After an E step the KL is 0 and the bar is $L$ alone. After an M step the whole bar is higher, and
# a KL has appeared: $q$ belongs to the old $\theta$.

# %%
log_likelihoods = torch.tensor([bound + gap for bound, gap in zip(bounds, gaps, strict=True)])
print("log p after each round:", [round(value.item(), 2) for value in log_likelihoods[1::2]])
assert all(abs(gap) < 1e-9 for gap in gaps[0::2])
assert (log_likelihoods.diff() > -1e-9).all()

# %% [markdown]
# $\log p$ never falls. In an M step it rises at least as much as $L$, because $L = \log p$ before
# it. **This needs the exact E step.** With another $q$, the M step still raises $L$, and $\log p$
# can fall. To see it, take the model after 200 more rounds, and do one M step with $q$ = the prior:

# %%
best = fitted
for _ in range(200):
    W, variance = m_step(X, C, best, *e_step(X, C, best))
    best = dataclasses.replace(best, W=W, variance=variance)

inexact = torch.zeros(40, 2), torch.eye(2)  # q = the prior
W, variance = m_step(X, C, best, *inexact)
after = dataclasses.replace(best, W=W, variance=variance)

# %%
L_before, L_after = (each.elbo(X, C, *inexact).mean() for each in (best, after))
p_before, p_after = (each.log_likelihood(X, C).mean() for each in (best, after))

print(f"L      {L_before:7.2f} -> {L_after:.2f}")
print(f"log p  {p_before:7.2f} -> {p_after:.2f}")
assert L_after > L_before
assert p_after < p_before

# %% [markdown]
# $L$ rises, $\log p$ falls. For a network the posterior $p(Z \mid X, C; \theta)$ cannot be
# computed, so no E step is exact. A **variational autoencoder** (Kingma & Welling 2014) uses a
# second network instead, with parameters $\phi$:
#
# $$q(Z) = q(Z \mid X, C; \phi)$$
#
# It raises $L$ over $\theta$ and $\phi$ together by gradient steps. From here on $q$ is this
# network.
#
# ## 1.4 The form that is computed
#
# **Step 5. The product rule once more**, in the direction in which the model generates:
# $p(X, Z \mid C; \theta) = p(X \mid Z, C; \theta)\, p(Z \mid C)$. In $L$ this gives
#
# $$\begin{aligned}
# L(X, q, \theta \mid C)
# &= \int q \log p(X \mid Z, C; \theta)\, dZ + \int q \log p(Z \mid C)\, dZ - \int q \log q\, dZ \\
# &= \underbrace{\mathbb{E}_{Z \sim q(Z \mid X, C; \phi)} \log p(X \mid Z, C; \theta)}_
# {\text{reconstruction}}
# \;-\; \underbrace{\mathrm{KL}\left(q(Z \mid X, C; \phi)\,\|\,p(Z \mid C)\right)}_
# {\text{KL to the prior}}
# \end{aligned}$$

# %%
log_likelihood_of_x = log_joint(grid) - prior.log_prob(grid)
reconstruction = integral(log_q.exp() * log_likelihood_of_x)
kl_to_prior = integral(log_q.exp() * (log_q - prior.log_prob(grid)))

print(f"reconstruction {reconstruction:.4f} - KL {kl_to_prior:.4f} = {L:.4f}")
assert torch.isclose(reconstruction - kl_to_prior, L)

# %% [markdown]
# It is the $L$ of step 3. Two KL terms have appeared now, and they are different:
#
# | | between $q$ and | it is | can it be computed? |
# | --- | --- | --- | --- |
# | step 3 | the posterior $p(Z \mid X, C; \theta)$ | the gap between $L$ and $\log p$ | no |
# | step 5 | the prior $p(Z \mid C)$ | a part of $L$ | yes |

# %%
print(f"KL to the posterior {gap:.4f}, KL to the prior {kl_to_prior:.4f}")
assert not torch.isclose(gap, kl_to_prior)

# %% [markdown]
# ## 1.5 The closed form of the KL
#
# In a VAE, $q$ and the prior are Gaussians with independent dimensions, so the KL is a sum over
# dimensions. One dimension is enough. By definition
# $\mathrm{KL}(q \,\|\, p) = \mathbb{E}_q[\log q - \log p]$, and
#
# $$\mathbb{E}_q \log q = -\tfrac12 \log 2\pi\sigma_q^2
#   - \frac{\mathbb{E}_q (z - \mu_q)^2}{2\sigma_q^2} = -\tfrac12 \log 2\pi\sigma_q^2 - \tfrac12$$
#
# because the expected squared distance from the mean is the variance. In the other term
# $\mathbb{E}_q (z - \mu_p)^2 = \sigma_q^2 + (\mu_q - \mu_p)^2$, so
#
# $$\mathbb{E}_q \log p = -\tfrac12 \log 2\pi\sigma_p^2
#   - \frac{\sigma_q^2 + (\mu_q - \mu_p)^2}{2\sigma_p^2}$$
#
# The difference of the two is
#
# $$\mathrm{KL}(q \,\|\, p) = \frac12 \left[ \log\frac{\sigma_p^2}{\sigma_q^2}
#   + \frac{\sigma_q^2 + (\mu_q - \mu_p)^2}{\sigma_p^2} - 1 \right]
# \qquad\text{and for } p = \mathcal{N}(0, 1):\quad
# \frac12 \left[ \mu_q^2 + \sigma_q^2 - \log \sigma_q^2 - 1 \right]$$
#
# A network gives $\mu$ and $\log \sigma^2$: every real number is then allowed, and $\sigma^2$ is
# positive.
#
# **Exercise 2.** Write the KL. All arguments are (B, z); the result has one number for each row,
# the sum over the latent dimensions.


# %% nbgrader={"grade": false, "grade_id": "kl-gaussian", "locked": false, "schema_version": 3, "solution": true, "task": false}
def kl_gaussian(mu_q, logvar_q, mu_p, logvar_p):
    """KL(q || p) of diagonal Gaussians, (B,), in nats."""
    ### BEGIN SOLUTION
    squared = torch.exp(logvar_q) + (mu_q - mu_p) ** 2
    each = 0.5 * (logvar_p - logvar_q + squared / torch.exp(logvar_p) - 1)
    return each.sum(dim=-1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-kl-gaussian", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check_kl_gaussian(kl_gaussian)

# %% [markdown]
# The definition gives the same number: an average of $\log q - \log p$ over draws from $q$.

# %%
mu, logvar = torch.tensor([[0.5, -1.0, 0.0]]), torch.tensor([[-0.5, -2.4, 0.0]])
formula = kl_gaussian(mu, logvar, torch.zeros(1, 3), torch.zeros(1, 3))[0]

noise = torch.randn(1_000_000, 3, generator=chance)
draws = mu + torch.exp(logvar / 2) * noise
log_ratio = 0.5 * (draws**2 - noise**2 - logvar).sum(dim=1)

print(f"formula {formula:.4f}, a million draws {log_ratio.mean():.1f}")
assert abs(formula - log_ratio.mean()) < 0.01

# %% [markdown]
# The third dimension of this $q$ equals the prior, and adds 0 to the sum.
#
# ## 1.6 What may $q$ depend on?
#
# The bound holds for any $q$. What $q$ depends on decides how tight the bound can be. Four choices,
# on 1,000 pairs $(x, c)$ of the model:
#
# - $q(Z \mid C)$ sees no frame. In this model $p(z)$ does not depend on $c$, so the best density of
#   this kind is the prior.
# - $q(Z \mid X)$ does not see the condition. This name is used for two things. One is the posterior
#   with $c$ set to 0. The other is $p(Z \mid X)$, in which $c$ is averaged out.
# - $q(Z \mid X, C)$ sees both. Only this one can be the posterior.

# %%
many_c = torch.randn(1000, 3, generator=chance)
many_x = model.sample(many_c, chance)
# With c averaged out, V c is one more noise: x = W z + (V c + s e).
noise_precision = torch.linalg.inv(model.V @ model.V.T + model.variance * torch.eye(4))
averaged = torch.linalg.inv(torch.eye(2) + model.W.T @ noise_precision @ model.W)
candidates = {
    "q(Z | C): the prior": (torch.zeros(1000, 2), torch.eye(2)),
    "q(Z | X), c = 0": model.posterior(many_x, 0 * many_c),
    "q(Z | X), c averaged out": (many_x @ noise_precision @ model.W @ averaged, averaged),
    "q(Z | X, C): the posterior": model.posterior(many_x, many_c),
}

# %%
gaps = {}
for name, q_of_choice in candidates.items():
    below = model.log_likelihood(many_x, many_c) - model.elbo(many_x, many_c, *q_of_choice)
    gaps[name] = below.mean().abs().item()
    print(f"{name:<28} mean gap {gaps[name]:8.2f} nats")
assert gaps["q(Z | X, C): the posterior"] < 1e-9
assert min(gaps[name] for name in list(gaps)[:3]) > 1

# %% [markdown]
# Only $q(Z \mid X, C)$ closes the gap. A derivation must use the same $q$ from the first line to
# the last. The course's sample code does not give $C$ to the posterior network. This is allowed,
# but the bound is then less tight.
#
# ## 1.7 A gradient through a draw
#
# The reconstruction term is an expectation over $q(Z \mid X, C; \phi)$, and its gradient with
# respect to $\phi$ is needed. There are two ways to estimate it from draws.
#
# - **Score function**: $\nabla_\phi\, \mathbb{E}_q f(z) = \mathbb{E}_q\left[ f(z)\,
#   \nabla_\phi \log q(z) \right]$. It needs only values of $f$.
# - **Reparameterization**: write $z = \mu + \sigma \epsilon$ with
#   $\epsilon \sim \mathcal{N}(0, I)$. The noise does not depend on $\phi$, so
#   $\nabla_\phi\, \mathbb{E} f(\mu + \sigma \epsilon) = \mathbb{E}\, \nabla_\phi
#   f(\mu + \sigma \epsilon)$. It needs the gradient of $f$.
#
# Both are correct on average. We compare how far single estimates scatter, for the gradient with
# respect to $\mu$ and $f(z) = \log p(x \mid z, c)$, whose exact gradient is known.

# %%
mu, sigma = torch.tensor([0.3, -0.2]), torch.tensor([0.4, 0.6])
y = (x - c @ model.V.T)[0]
exact = (model.W.T @ (y - model.W @ mu)) / model.variance

epsilon = torch.randn(300, 256, 2, generator=chance)  # 300 estimates of up to 256 draws
z = mu + sigma * epsilon
error = y - z @ model.W.T
f = -0.5 * error.square().sum(-1, keepdim=True) / model.variance
score_function = f * epsilon / sigma  # grad log q = (z - mu) / sigma^2
reparameterized = error @ model.W / model.variance  # grad f, since dz/dmu = 1

# %%
counts = [1, 4, 16, 64, 256]
plt.figure(figsize=(5, 3.2))
scatter = {}
for name, each in (("score function", score_function), ("reparameterization", reparameterized)):
    scatter[name] = [each[:, :n].mean(dim=1)[:, 0].std().item() for n in counts]
    plt.loglog(counts, scatter[name], "o-", label=name)
plt.xlabel("draws of z per estimate")
plt.ylabel("standard deviation of the estimate")
plt.legend()
plt.show()

# %% [markdown]
# Both lines fall as $1 / \sqrt{n}$, where $n$ is the number of draws. One draw of the
# reparameterized estimate scatters less than the mean of 256 draws of the other. This is why one
# draw of $z$ per clip is enough in training.

# %%
for each in (score_function, reparameterized):
    standard_error = each.std(dim=(0, 1)) / (300 * 256) ** 0.5
    assert ((each.mean(dim=(0, 1)) - exact).abs() < 5 * standard_error).all()

ratios = [a / b for a, b in zip(*scatter.values(), strict=True)]
print(f"score function / reparameterization: {min(ratios):.0f} to {max(ratios):.0f}")
assert min(ratios) > 3
assert scatter["reparameterization"][0] < scatter["score function"][-1]  # 1 draw, 256 draws

# %% [markdown]
# ## 1.8 Three errors in derivations
#
# **Error 1: "$\log q - \log p = \log(q - p)$".** A difference of logarithms is the logarithm of a
# *quotient*. Where $q < p$, the logarithm of the difference does not exist.

# %%
here = torch.tensor([2.0, 1.0])
q_here, p_here = q.log_prob(here).exp(), prior.log_prob(here).exp()

print(f"log q - log p  {q_here.log() - p_here.log():.4f}")
print(f"log(q / p)     {(q_here / p_here).log():.4f}")
print(f"log(q - p)     {(q_here - p_here).log():.4f}")
assert torch.isclose(q_here.log() - p_here.log(), (q_here / p_here).log())
assert (q_here - p_here).log().isnan()

# %% [markdown]
# **Error 2: the sign of the KL changes between two lines.** In $L$ the KL to the prior is
# subtracted. With a plus the result is no lower bound. To see it, take a $q$ with the posterior's
# mean and make it narrow:

# %%
print(f"log p(x | c)        {log_p:8.2f}")
for variance in (1e-1, 1e-2, 1e-4, 1e-8):
    narrow = model.posterior(x, c)[0], variance * torch.eye(2)
    reconstruction, kl = model.reconstruction(x, c, *narrow)[0], model.kl_to_prior(*narrow)[0]
    minus, plus = reconstruction - kl, reconstruction + kl
    print(f"variance {variance:.0e}  minus {minus:8.2f}  plus {plus:8.2f}")
    assert minus < log_p < plus

# %% [markdown]
# With a minus every value is below $\log p$. With a plus every value is above $\log p$, and grows
# without limit: an optimiser would shrink $q$ to a single point.
#
# **Error 3: different densities $q$ in one line.** If the reconstruction is taken under
# $q(Z \mid X, C)$ and the KL under $q(Z \mid C)$, the result is no bound either:

# %%
q_of_x_and_c = model.posterior(x, c)
q_of_c = torch.zeros(1, 2), torch.eye(2)
mixed = model.reconstruction(x, c, *q_of_x_and_c)[0] - model.kl_to_prior(*q_of_c)[0]
consistent = model.reconstruction(x, c, *q_of_x_and_c)[0] - model.kl_to_prior(*q_of_x_and_c)[0]

print(f"two densities {mixed:.2f}, one density {consistent:.2f}, log p {log_p:.2f}")
assert mixed > log_p
assert torch.isclose(consistent, log_p)

# %% [markdown]
# The same care is needed for $p$: $p(Z \mid C)$ is the prior, $p(Z \mid X, C; \theta)$ is the
# posterior, and $p(X \mid Z, C; \theta)$ is not $p(X \mid C; \theta)$.
#
# ## 1.9 The form for a sequence
#
# A clip is generated frame by frame. $x_0$ is given; $x_t$ is generated from the frames before it,
# the latents so far, and the conditions up to $c_{t-1}$, which leads from $x_{t-1}$ to $x_t$.
#
# **Step 6. The chain rule along time**, given $x_0$:
#
# $$p(X, Z \mid C; \theta)
#   = \prod_{t=1}^{T-1} p(x_t \mid x_{<t}, z_{1:t}, c_{<t}; \theta)\; p(z_t)$$
#
# | part of this line | reason |
# | --- | --- |
# | a product of conditionals along time | the chain rule, always true |
# | no factor for $x_0$ | everything is conditioned on $x_0$ |
# | $c_{<t}$ and not all of $C$ | assumed: later actions do not change earlier frames |
# | $p(z_t)$ and not $p(z_t \mid x_{<t}, z_{<t}, C)$ | assumed: a fixed prior $\mathcal{N}(0, I)$ |
#
# The check uses a linear model for sequences. Its state $h_t$ plays the role of the
# LSTM's state. The condition is left out: it would only add a known term.
#
# $$h_t = F h_{t-1} + z_t, \quad h_0 = 0, \qquad x_t = A x_{t-1} + H h_t + \text{noise},
#   \quad \text{noise} \sim \mathcal{N}(0, s^2 I)$$

# %%
video = StateSpace.random(x=3, z=1, generator=chance)
clip = video.sample(6, chance)
latents = torch.randn(5, 1, generator=chance)

h, by_steps = torch.zeros(1), 0
for t in range(1, 6):
    h = video.F @ h + latents[t - 1]
    frame = MultivariateNormal(video.A @ clip[t - 1] + video.H @ h, video.variance * torch.eye(3))
    by_steps += frame.log_prob(clip[t])  # log p(x_t | x_{<t}, z_{1:t})
    by_steps += MultivariateNormal(torch.zeros(1), torch.eye(1)).log_prob(latents[t - 1])

# %% [markdown]
# The same joint density in one piece: $X$ and $Z$ as two long vectors.

# %%
y, M, _ = video.linear_form(clip)  # y = M z + noise
at_once = MultivariateNormal(M @ latents.flatten(), video.variance * torch.eye(15)).log_prob(y)
at_once += MultivariateNormal(torch.zeros(5), torch.eye(5)).log_prob(latents.flatten())

print(f"log p(X, Z): by steps {by_steps:.4f}, at once {at_once:.4f}")
assert torch.isclose(by_steps, at_once)

# %% [markdown]
# **Step 7. Let $q$ factorise in the same way.** The posterior network at time $t$ sees the frames
# up to its target $x_t$, and no latent:
#
# $$q(Z \mid X, C; \phi) = \prod_{t=1}^{T-1} q(z_t \mid x_{0:t}, c_{<t}; \phi)$$
#
# This is a choice. In the check, each factor is the exact posterior given the frames up to $t$. A
# perfect network would find these factors. The KL of two products is the sum of the KLs of their
# factors:

# %%
mean, covariance = video.filtered(clip)  # the exact p(z_t | x_{0:t}) for each t
mu, logvar = mean[:, None], covariance.diagonal().log()[:, None]  # (T-1, z)
sum_of_kls = kl_gaussian(mu, logvar, torch.zeros(5, 1), torch.zeros(5, 1)).sum()
as_one_vector = kl_gaussian(mu.T, logvar.T, torch.zeros(1, 5), torch.zeros(1, 5))[0]

print(f"sum over t {sum_of_kls:.4f}, all latents as one vector {as_one_vector:.4f}")
assert torch.isclose(sum_of_kls, as_one_vector)

# %% [markdown]
# **Step 8. Put both into step 5.** The logarithm of a product is a sum. In the term of $x_t$ the
# latents after $t$ do not appear, and integrate to 1:
#
# $$L = \sum_{t=1}^{T-1} \Big[\;
# \mathbb{E}_{q(z_{1:t})} \log p(x_t \mid x_{<t}, z_{1:t}, c_{<t}; \theta)
# \;-\; \mathrm{KL}\left(q(z_t \mid x_{0:t}, c_{<t}; \phi) \,\|\, p(z_t)\right) \Big]$$
#
# The expectation is over *all* of $z_1, \dots, z_t$, because the state $h_t$ contains them. In the
# linear model $h_t$ is Gaussian under $q$, with mean $m_t$ and covariance $P_t$:
#
# $$m_t = F m_{t-1} + \mu_t, \qquad P_t = F P_{t-1} F^\top + \mathrm{diag}(\sigma_t^2)$$
#
# $$\mathbb{E}_q \log p(x_t \mid \cdot) = -\frac{D}{2} \log 2 \pi s^2
#   - \frac{\lVert x_t - A x_{t-1} - H m_t \rVert^2 + \mathrm{tr}(H P_t H^\top)}{2 s^2}$$
#
# **Exercise 3.** Write step 8 for the linear model. `x` is (T, D); `mu` and `logvar` are (T-1, z);
# `model` has `F`, `H`, `A` and `variance`. The result is one number.


# %% nbgrader={"grade": false, "grade_id": "sequence-elbo", "locked": false, "schema_version": 3, "solution": true, "task": false}
def sequence_elbo(x, mu, logvar, model):
    """The sum of step 8 over t = 1 .. T-1, in nats."""
    ### BEGIN SOLUTION
    m, P, L = torch.zeros(mu.shape[1]).to(x), torch.zeros_like(model.F), 0
    for t in range(1, len(x)):
        m = model.F @ m + mu[t - 1]
        P = model.F @ P @ model.F.T + torch.diag(torch.exp(logvar[t - 1]))
        error = (x[t] - model.A @ x[t - 1] - model.H @ m).square().sum()
        error = error + torch.trace(model.H @ P @ model.H.T)
        L = L - x.shape[1] / 2 * torch.log(2 * math.pi * model.variance)
        L = L - error / (2 * model.variance)
        L = L - kl_gaussian(mu[t - 1], logvar[t - 1], 0 * mu[t - 1], 0 * mu[t - 1])
    return L
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-sequence-elbo", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check_sequence_elbo(sequence_elbo)

# %%
summed = sequence_elbo(clip, mu, logvar, video)
joint = video.elbo(clip, mean, covariance)

print(f"sum over t {summed:.4f}, ELBO of all latents together {joint:.4f}")
print(
    f"log p {video.log_likelihood(clip):.4f}, by the Kalman filter "
    f"{video.kalman_log_likelihood(clip):.4f}"
)
assert torch.isclose(summed, joint)
assert torch.isclose(video.log_likelihood(clip), video.kalman_log_likelihood(clip))
assert summed < video.log_likelihood(clip)

# %% [markdown]
# The sum over time is the ELBO of step 5, and it is below $\log p$.
#
# ## 1.10 What the choice of step 7 costs
#
# The true posterior of $z_t$ depends on the frames *after* $t$ as well, and its latents depend on
# each other. The factors of step 7 can express neither. So a gap remains, however large the network
# is. In the linear model it can be measured, for three kinds of $q$:
#
# - each factor sees the frames up to $x_t$, as in step 7;
# - each factor sees all frames, and the latents are still independent of each other;
# - the exact posterior of all latents together.

# %%
kinds = {
    "sees the frames up to t": video.filtered,
    "sees all frames, factorised": video.factorised,
    "exact posterior": video.posterior,
}
lengths = range(3, 13)
gap_of = {name: [] for name in kinds}
for T in lengths:
    clips = [video.sample(T, chance) for _ in range(20)]
    for name, kind in kinds.items():
        each = [video.log_likelihood(clip) - video.elbo(clip, *kind(clip)) for clip in clips]
        gap_of[name].append(torch.stack(each).mean().item())

# %%
plt.figure(figsize=(5.5, 3.2))
for (name, values), marker in zip(gap_of.items(), "os^", strict=True):
    plt.plot(lengths, values, marker + "-", label=name)
plt.xlabel("frames T")
plt.ylabel("gap log p - L, in nats")
plt.legend()
plt.show()

# %%
for name, values in gap_of.items():
    print(f"{name:<28} gap at T = 12: {abs(values[-1]):.2f} nats")
past, factorised, exact = gap_of.values()
assert all(a > b > 0 for a, b in zip(past, factorised, strict=True))
assert max(abs(gap) for gap in exact) < 1e-9
assert past[-1] > 5 * past[0]
assert factorised[-1] > 5 * factorised[0]

# %% [markdown]
# Both factorised kinds leave a gap that grows with the length. Seeing all frames makes it smaller.
# Only the joint posterior closes it. The lab's model, like the course's, is of the first kind.
#
# ## 1.11 Free-running rollouts, $x_1$, and a learned prior
#
# **Free-running.** In step 8 the frame fed to the network is the true $x_{t-1}$ (teacher forcing).
# If the network is fed its own prediction $\hat x_{t-1}$ instead, the density of $x_t$ changes: it
# depends on the past frames only through $x_0$ and $z_{1:t}$. This is *another model* with another
# likelihood,
#
# $$\tilde p(X, Z \mid C)
#   = \prod_t p(x_t \mid \hat x_{t-1}(x_0, z_{<t}), z_{1:t}, c_{<t})\, p(z_t)$$
#
# The same five steps give its bound. The posterior still sees the true frames.

# %%
for name, free in (("teacher forced", False), ("free-running", True)):
    likelihood = video.log_likelihood(clip, free_running=free)
    bound = video.elbo(clip, mean, covariance, free_running=free)
    best = video.elbo(clip, *video.posterior(clip, free_running=free), free_running=free)
    print(f"{name:<15} L {bound:9.3f}  log p {likelihood:9.3f}  L with the posterior {best:9.3f}")
    assert bound < likelihood
    assert torch.isclose(best, likelihood)

# %% [markdown]
# Each bound is below its own $\log p$ and reaches it at its own posterior. The two likelihoods
# differ, so the two losses may not be compared with each other.
#
# **Why $x_1$ counts.** With 2 context frames, $x_1$ is known when the model predicts. The sum of
# step 8 still starts at $t = 1$, because the bound is conditioned on $x_0$ alone. Is the sum from
# $t = 2$ a bound of $\log p(x_{2:T-1} \mid x_0, x_1)$? We take the exact posterior of all latents
# as $q$, and leave out the first term.

# %%
mean_all, covariance_all = video.posterior(clip)
first_term = video.elbo(clip[:2], mean_all[:1], covariance_all[:1, :1])
from_2 = video.elbo(clip, mean_all, covariance_all) - first_term
log_p_from_2 = video.log_likelihood(clip) - video.log_likelihood(clip[:2])

print(f"sum from t = 2: {from_2:.4f}, log p(x_2, .. | x_0, x_1): {log_p_from_2:.4f}")
assert from_2 > log_p_from_2

# %% [markdown]
# It is no bound: the sum is larger than $\log p$. Its first term is missing, and this term is what
# keeps $z_1$ near the values that fit $x_0$ and $x_1$. The excess is the KL between two densities
# of $z_1$: given all frames, and given $x_0$ and $x_1$ only.

# %%
mean_1, covariance_1 = video.filtered(clip[:2])  # p(z_1 | x_0, x_1)
variances = covariance_all[:1, :1], covariance_1
(excess,) = kl_gaussian(mean_all[None, :1], variances[0].log(), mean_1[None], variances[1].log())

print(f"{from_2 - log_p_from_2:.4f} = {excess:.4f}")
assert torch.isclose(from_2 - log_p_from_2, excess)

# %% [markdown]
# The first term also trains the network: $z_1$ must describe $x_1$.
#
# **A learned prior** (Denton & Fergus 2018) drops one assumption of step 6: $p(z_t)$ becomes
# $p_\psi(z_t \mid x_{<t}, c_{<t})$. In step 8 only the second argument of the KL changes:
#
# $$\mathrm{KL}\left(q(z_t \mid x_{0:t}, c_{<t}; \phi) \,\|\,
#   p_\psi(z_t \mid x_{<t}, c_{<t})\right)$$
#
# In the linear model, let the prior's mean be $K x_{t-1}$:

# %%
learned = dataclasses.replace(video, K=0.3 * torch.randn(1, 3, generator=chance))
clip = learned.sample(6, chance)
mean, covariance = learned.filtered(clip)
mu, logvar = mean[:, None], covariance.diagonal().log()[:, None]
prior_mean = clip[:-1] @ learned.K.T
to_learned = kl_gaussian(mu, logvar, prior_mean, 0 * prior_mean).sum()
to_fixed = kl_gaussian(mu, logvar, 0 * mu, 0 * mu).sum()
L = sequence_elbo(clip, mu, logvar, video) + to_fixed - to_learned

print(f"L {L:.4f}, log p {learned.log_likelihood(clip):.4f}")
assert torch.isclose(L, learned.elbo(clip, mean, covariance))
assert learned.kalman_log_likelihood(clip) > L

# %% [markdown]
# It is enough to exchange the KL term. The result is the bound of the model with the learned prior.
#
# ## 1.12 What MSE and $\beta$ mean
#
# The code minimises mean squared error $+\ \beta \cdot$ KL. Let each of the $D$ numbers of a frame
# have an observation noise with standard deviation $\sigma$. Then
#
# $$-\log p(x_t \mid \cdot) = \frac{\lVert x_t - \hat x_t \rVert^2}{2 \sigma^2} + \text{const}
#   = \frac{D}{2\sigma^2}\,\mathrm{MSE} + \text{const}$$
#
# The MSE is the *mean* over the $D$ numbers; the KL is a *sum* over latent dimensions. Multiply
# $-L$ by $2\sigma^2 / D$, which does not move its minimum:
#
# $$\mathrm{MSE} + \frac{2\sigma^2}{D}\,\mathrm{KL}
# \qquad\text{so}\qquad \beta = \frac{2\sigma^2}{D}, \quad \sigma^2 = \frac{\beta D}{2}$$
#
# A frame of $64 \times 64$ pixels with 3 channels has $D = 12288$.

# %%
D = 64 * 64 * 3
sigma_of = {beta: math.sqrt(beta * D / 2) for beta in (1.0, 1e-2, 1e-4, 1e-6)}
for beta, sigma in sigma_of.items():
    print(f"beta {beta:<7g} means sigma = {sigma:.3f}")
assert abs(sigma_of[1e-4] - 0.78) < 0.005

# %% [markdown]
# Pixel values lie between 0 and 1. The usual $\beta = 10^{-4}$ means $\sigma = 0.78$: an error of
# 0.78 at every pixel costs little. With such a weight the KL of the latent usually costs more than
# the latent saves in the squared error. A better choice is the error of the model itself:
# $\sigma^2$ is its mean squared error (the $\sigma$-VAE, Rybkin et al. 2021). Take a model with a
# PSNR of 24.5 dB (PSNR $= -10 \log_{10} \mathrm{MSE}$):

# %%
mean_squared_error = 10 ** (-24.5 / 10)
calibrated = 2 * mean_squared_error / D
print(
    f"MSE {mean_squared_error:.5f}, beta {calibrated:.1e}: {1e-4 / calibrated:.0f} times below 1e-4"
)
assert 5e-7 < calibrated < 7e-7

# %% [markdown]
# ## 1.13 The same in the package
#
# `labkit.model.kl_divergence` is the formula of 1.5. `labkit.training.negative_elbo` is the loss of
# 1.12 for the sum of step 8. The squared error is averaged over pixels, the KL is summed over
# latent dimensions, and both are averaged over time steps and clips.

# %%
from labkit.model import Gaussian, Rollout
from labkit.training import negative_elbo

truth, predicted = torch.rand(2, 3, 3, 64, 64), torch.rand(2, 3, 3, 64, 64)
posteriors = Gaussian(torch.randn(2, 3, 5), torch.randn(2, 3, 5))
priors = Gaussian(torch.zeros(2, 3, 5), torch.zeros(2, 3, 5))
objective = negative_elbo(Rollout(predicted, posteriors, priors), truth, kl_weight=1e-4)

flat = (posteriors.mean, posteriors.log_variance, priors.mean, priors.log_variance)
kl = kl_gaussian(*(each.flatten(0, 1) for each in flat)).mean()
loss = (truth - predicted).square().mean() + 1e-4 * kl
print(f"KL   {objective.kl:.4f}, by this page {kl:.4f}")
print(f"loss {objective.loss:.4f}, by this page {loss:.4f}")
assert torch.isclose(objective.kl, kl)
assert torch.isclose(objective.loss, loss)

# %% [markdown]
# ## Summary
#
# 1. $\log p = L + \mathrm{KL}(q \,\|\, \text{posterior})$ for any $q$, so $L$ is a lower bound.
# 2. EM makes the KL zero (E), then raises $L$ (M). A VAE replaces the E step by a network $q_\phi$.
# 3. $L$ = reconstruction $-$ KL to the prior; this second KL has a closed form for Gaussians.
# 4. For a sequence $L$ is a sum over $t$; each term depends on all of $z_{1:t}$. A factorised $q$
#    leaves a gap.
# 5. MSE $+\ \beta\,$KL is $-L$ up to scale, with $\sigma^2 = \beta D / 2$.
#
# ## What can go wrong
#
# - The two KL terms are taken for one. Only the KL to the prior is part of the loss.
# - $\beta$ is copied from code in which the squared error is summed, or the KL is averaged. Compare
#   the reductions first.
# - `logvar` is used as a standard deviation. It is $\log \sigma^2$.
# - The ELBO of a teacher-forced rollout is compared with that of a free-running one.
#
# ## More exercises
#
# 4. In 1.3, start EM from $W = 0$. What happens, and why? (Look at the E step.)
# 5. In 1.10, make the state forget faster ($F = 0.2$). Which gap changes most?
# 6. Derive step 8 for a $q$ whose factor at $t$ sees $z_{t-1}$ as well. Which expectation changes?
#
# ## Links
#
# - A. Dempster, N. Laird, D. Rubin, *Maximum Likelihood from Incomplete Data via the EM Algorithm*,
#   1977: <https://www.jstor.org/stable/2984875>
# - D. Kingma, M. Welling, *Auto-Encoding Variational Bayes*, 2014:
#   <https://arxiv.org/abs/1312.6114>
# - K. Sohn, H. Lee, X. Yan, *Learning Structured Output Representation using Deep Conditional
#   Generative Models*, 2015 (the CVAE):
#   <https://papers.nips.cc/paper/2015/hash/8d55a249e6baa5c06772297520da2051-Abstract.html>
# - E. Denton, R. Fergus, *Stochastic Video Generation with a Learned Prior*, 2018:
#   <https://arxiv.org/abs/1802.07687>
# - O. Rybkin, K. Daniilidis, S. Levine, *Simple and Effective VAE Training with Calibrated
#   Decoders*, 2021: <https://arxiv.org/abs/2006.13202>
# - In the package: `labkit/course/linear_gaussian.py` (the small models),
#   `labkit/model/gaussian.py` (the KL), `labkit/training/objective.py` (the loss).
#
# Next: [02_dataloader](02_dataloader.ipynb), where $X$ and $C$ are read from files.
