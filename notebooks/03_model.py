# %% [markdown]
# # 3 · The model: a CVAE unrolled over time
#
# [02_dataloader](02_dataloader.ipynb) ended with a batch: frames $x_t$ and conditions $c_t$. The
# model turns it into predictions $\hat x_1, \hat x_2, \dots$, one after the other. It belongs to
# the family of SVG (Denton & Fergus 2018), with the robot's condition added.
#
# **After this page you can**
#
# 1. write one step of the model, one equation a line, and give the shape of each quantity;
# 2. name the three rollouts, and say which frame is fed and where $z_t$ comes from in each;
# 3. write the reparameterized draw and the free-running rollout;
# 4. prove that a prediction reads no future frame;
# 5. say what skip connections, batch norm, a learned prior and latent maps change.
#
# **You need** pages [1](01_elbo_derivation.ipynb) and [2](02_dataloader.ipynb), LSTMs,
# convolutions.
#
# **Time**: about 60 minutes to read and to solve the exercises; about a minute to run.
#
# For $t = 1, \dots, T-1$, with context frames $x_0, \dots, x_{n-1}$ ($n$ = `n_past` = 2):
#
# $$\begin{aligned}
# h_{t-1} &= \mathrm{Enc}(x_{t-1}) && \text{the frame fed: true in the context; later see 3.4} \\
# z_t &\sim q_\phi(z_t \mid x_{1:t}) && \text{where } x_t \text{ is known: in the context, and in
#   training} \\
# z_t &\sim p(z_t) = \mathcal{N}(0, I) && \text{where } x_t \text{ is predicted} \\
# g_t &= \mathrm{LSTM}_\theta(h_{t-1}, c_{t-1}, z_t) \\
# \hat x_t &= \mathrm{Dec}(g_t, \text{skip features})
# \end{aligned}$$

# %%
import labkit
from labkit.course.checks import check_free_run, check_reparameterize
from labkit.views.model_graph import model_graph

labkit.lab_setup()
model_graph("A prediction: 2 -> 3 frames", n_past=2, n_future=3, posterior_condition=False)

# %% [markdown]
# Each column is one step. Grey circles are given, white ones are computed. In the first column
# $x_1$ is a context frame, so $z_1$ comes from the posterior. After the context $z_t$ comes from
# the prior, and each prediction is fed to the next step (blue arrows). On page 1 the posterior may
# also see $x_0$ and the conditions. The posterior network of the course sees only $x_1, \dots,
# x_t$.
#
# ## 3.1 One step, one call a line
#
# The model here is the course's with smaller sizes: an encoder and a decoder of convolutions, and
# LSTMs over vectors. Its weights are random: this section is about what goes where. The batch is
# two simulated clips of 12 frames.

# %%
import dataclasses

import torch

from labkit.course.small_model import simulated_windows, small_course_model, train_small
from labkit.model import VideoCVAE

frames, condition = simulated_windows(2)
model = VideoCVAE(small_course_model(), condition_size=7).eval()
print("frames", tuple(frames.shape), " condition", tuple(condition.shape))
assert frames.shape == (2, 12, 3, 64, 64)
assert condition.shape == (2, 12, 7)

# %% [markdown]
# Step $t = 1$, as in training. An LSTM takes a sequence, so its inputs get a time axis of length 1.

# %%
from labkit.model.backbones import Skips

with torch.no_grad():
    h_0, maps = model.encoder(frames[:, 0])  # h_0 = Enc(x_0), and its feature maps
    h_1, _ = model.encoder(frames[:, 1])  # h_1 = Enc(x_1), of the target
    q, _ = model.posterior(h_1[:, None])  # q(z_1 | x_1) = LSTM_phi(h_1)
    z_1 = q.mean + torch.exp(0.5 * q.log_variance) * torch.randn_like(q.mean)  # z_1 ~ q
    c_and_z = torch.cat([condition[:, :1], z_1], dim=-1)
    g_1, _ = model.predictor(h_0[:, None], c_and_z)  # g_1 = LSTM_theta(h_0, c_0, z_1)
    skips = Skips(model.decoder.prepare([each[:, None] for each in maps]), [0])
    x_1 = model.decoder(g_1[:, 0], skips).sigmoid()  # x^_1 = Dec(g_1, skips)

# %%
shapes = {"h_0": h_0, "q mean": q.mean, "z_1": z_1, "g_1": g_1, "predicted x_1": x_1}
for name, tensor in shapes.items():
    print(f"{name:<14} {tuple(tensor.shape)}")
print("skip features ", ", ".join(str(tuple(each.shape[1:])) for each in maps))
assert x_1.shape == frames[:, 0].shape
assert 0 <= x_1.min() <= x_1.max() <= 1

# %% [markdown]
# $h$, $z$ and $g$ are all that the LSTMs know of a frame: 32, 8 and 32 numbers. The **skip
# features** go past this bottleneck directly to the decoder. The sharp background comes from them.
#
# All steps together are one loop. The function `unroll` in `labkit/reference/model.py` has this
# loop and computes all three rollouts of this page (3.4). This is the body of the loop:

# %%
import inspect

from labkit.reference.model import unroll

source = inspect.getsource(unroll)
print(source[source.index("    for t in range") :])

# %% [markdown]
# `VideoCVAE.rollout` of the package computes the same in fewer and larger calls:

# %%
noise = torch.randn(2, 11, 8, generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    by_loop = unroll(model, frames, condition, 2, noise, teacher_forced=True).frames
    by_engine = model.rollout(frames, condition, 2, teacher_forced=True, noise=noise).frames
difference = (by_loop - by_engine).abs().max()
print(f"11 steps: the largest difference is {difference:.4f}")
assert difference < 1e-5

# %% [markdown]
# ## 3.2 How large is it, and where?
#
# Every time step uses the same weights. A multiply-add is one multiplication and one addition; the
# counts are for one frame.

# %%
from torch.utils.flop_counter import FlopCounterMode

from labkit.presets import preset


def multiply_adds(network, *arguments):
    """Millions of multiply-adds of one call."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*arguments)
    return counter.get_total_flops() / 2 / 1e6


course = VideoCVAE(preset("course").model, condition_size=7).eval()
names = ("encoder", "decoder", "predictor", "posterior")
parameters = [sum(p.numel() for p in getattr(course, name).parameters()) for name in names]

# %%
h, z = torch.zeros(1, 1, 128), torch.zeros(1, 1, 64 + 7)
_, maps = course.encoder(frames[:1, 0])
skips = Skips(course.decoder.prepare([each[:, None] for each in maps]), [0])
work = {
    "encoder": multiply_adds(course.encoder, frames[:1, 0]),
    "decoder": multiply_adds(course.decoder, h[:, 0], skips),
    "predictor": multiply_adds(course.predictor, h, z),
    "posterior": multiply_adds(course.posterior, h),
}
print("course      parameters   million multiply-adds")
for name, size in zip(names, parameters, strict=True):
    print(f"{name:<10}{size:>12,}{work[name]:>14,.1f}")
assert work["encoder"] + work["decoder"] > 0.99 * sum(work.values())

# %% [markdown]
# Nearly all multiply-adds are in the convolutions of encoder and decoder. The LSTMs have 8 % of the
# parameters and almost none of the work.

# %%
share = (parameters[2] + parameters[3]) / sum(parameters)
print(f"LSTMs: {100 * share:.0f} % of the parameters")
assert 0.07 < share < 0.09

# %% [markdown]
# ## 3.3 Reparameterization
#
# $z$ is drawn from $\mathcal{N}(\mu, \sigma^2)$. A draw has no gradient. Written as
#
# $$z = \mu + \sigma\, \epsilon, \qquad \epsilon \sim \mathcal{N}(0, I), \qquad
#   \sigma = e^{\frac12 \log \sigma^2}$$
#
# the randomness is an input, and $z$ is a differentiable function of $\mu$ and $\log \sigma^2$,
# with $\partial z / \partial \mu = 1$ and $\partial z / \partial \log \sigma^2 = (z - \mu) / 2$.
# Page 1, section 1.7, compares it with the other way to a gradient.
#
# **Exercise 1.** Write the draw. Both arguments are (B, z).


# %% nbgrader={"grade": false, "grade_id": "reparameterize", "locked": false, "schema_version": 3, "solution": true, "task": false}
def reparameterize(mu, logvar):
    """A draw from N(mu, exp(logvar)) through which gradients flow."""
    ### BEGIN SOLUTION
    return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-reparameterize", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check_reparameterize(reparameterize)

# %% [markdown]
# ## 3.4 Three rollouts
#
# | rollout | frame fed after the context | $z_t$ after the context | purpose |
# | --- | --- | --- | --- |
# | `rollout` | true *or* predicted | posterior, which sees $x_t$ | training |
# | `reconstruct` | predicted | posterior, which sees $x_t$ | shows how much $z$ can carry |
# | `predict` | predicted | prior | the result |
#
# Within the context the three are the same: true frames are fed, and $z_t$ comes from the
# posterior.
#
# **Teacher forcing decides which frame is fed, and nothing else.** It is the blue arrow into each
# column after the context. With teacher forcing it comes from the true $x_{t-1}$ at the bottom:

# %%
training = {"n_past": 2, "n_future": 2, "z": "posterior", "posterior_condition": False}
model_graph("Training, teacher forced", **training, teacher_forced=True)

# %% [markdown]
# Without it, the arrow comes from the prediction at the top:

# %%
model_graph("Training, free-running", **training, teacher_forced=False)

# %% [markdown]
# In both graphs $z_t$ comes from $\mathrm{LSTM}_\phi$. We can also measure what a rollout reads. We
# replace true frame 5 by its negative. Which steps change?


# %%
def changed_steps(teacher_forced, z_from):
    """The steps t whose prediction changes when frame 5 does."""
    changed = frames.clone()
    changed[:, 5] = 1 - frames[:, 5]
    how = {"teacher_forced": teacher_forced, "z_from": z_from}
    with torch.no_grad():
        one, other = (unroll(model, x, condition, 2, noise, **how) for x in (frames, changed))
    differs = (one.frames != other.frames).any(dim=4).any(dim=3).any(dim=2).any(dim=0)
    return [t for t in range(1, 12) if differs[t - 1]]


# %%
measured = {
    "rollout, teacher forced": changed_steps(True, "posterior"),
    "rollout, free-running  ": changed_steps(False, "posterior"),
    "frames fed, z from prior": changed_steps(True, "prior"),
    "predict                ": changed_steps(False, "prior"),
}

for name, steps in measured.items():
    print(f"{name:<25} {steps}")
assert list(measured.values()) == [list(range(5, 12)), list(range(5, 12)), list(range(6, 12)), []]

# %% [markdown]
# A free-running rollout of training still depends on frame 5, from step 5 on: its $z_5$ comes from
# the posterior, which sees $x_5$. With $z$ from the prior and true frames fed, the dependence
# begins at step 6, where $x_5$ is the frame fed. A prediction does not depend on it at all.
#
# Teacher forcing has a cost. A model that was trained on true frames only is fed its own imperfect
# predictions for the first time in the test (*exposure bias*, Bengio et al. 2015).
#
# ## 3.5 Mistake: a fixed Gaussian instead of the posterior
#
# Some code draws $z$ from a fixed Gaussian in steps without teacher forcing. The posterior then
# learns nothing from these steps. We compare the size of its gradient.


# %%
def posterior_gradient(z_from):
    """Norm of the gradient of the squared error with respect to the posterior's weights."""
    model.zero_grad()
    predicted = unroll(model, frames, condition, 2, noise, z_from=z_from).frames
    (predicted - frames[:, 1:])[:, 1:].square().mean().backward()  # the steps after the context
    return torch.stack([p.grad.norm() for p in model.posterior.parameters()]).norm().item()


from_posterior, from_fixed = posterior_gradient("posterior"), posterior_gradient("prior")
print(f"with the mistake the gradient is {from_posterior / from_fixed:.0f} times smaller")
assert from_posterior > 2 * from_fixed

# %% [markdown]
# The remaining gradient comes from $z_1$, which is within the context.
#
# ## 3.6 The free-running rollout
#
# A prediction can be written with two calls. `model.begin(context, condition)` returns the state
# after the context. `model.step(state, condition_row)` returns the next frame and the next state.
# The model feeds each predicted frame to its next step.
#
# **Exercise 2.** Write the loop. `context` is (B, n_past, 3, 64, 64), `condition` (B, T, 7); the
# result is (B, horizon, 3, 64, 64). Remember which condition leads to $x_t$.


# %% nbgrader={"grade": false, "grade_id": "free-run", "locked": false, "schema_version": 3, "solution": true, "task": false}
def free_run(model, context, condition, horizon):
    """The `horizon` frames after the context, free-running."""
    ### BEGIN SOLUTION
    n_past = context.shape[1]
    state = model.begin(context, condition)
    predicted = []
    for t in range(n_past, n_past + horizon):
        frame, state = model.step(state, condition[:, t - 1])
        predicted.append(frame)
    return torch.stack(predicted, dim=1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-free-run", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check_free_run(free_run)

# %% [markdown]
# ## 3.7 A prediction cannot read the future
#
# Nobody should have to read the code to trust a test rollout. `predict` does not get a future
# frame: its arguments are the context, the conditions and a number.

# %%
arguments = list(inspect.signature(model.predict).parameters)
print(", ".join(arguments))
assert arguments[:3] == ["context", "condition", "horizon"]

# %% [markdown]
# This check works for any rollout: fill everything that must not be read with NaN. Every sum and
# product with a NaN is NaN. We do this with the loop of 3.1, which does not examine its input. All
# frames from $x_2$ on become NaN, and the last condition $c_{11}$, which leads to a frame after the
# last one.

# %%
poisoned, rows = frames.clone(), condition.clone()
poisoned[:, 2:], rows[:, 11] = torch.nan, torch.nan
with torch.no_grad():
    predicted = unroll(model, poisoned, rows, 2, noise, z_from="prior").frames
    reconstructed = unroll(model, poisoned, rows, 2, noise, z_from="posterior").frames
    forced = unroll(model, poisoned, rows, 2, noise, z_from="prior", teacher_forced=True).frames

# %%
results = {"predicted": predicted, "reconstructed": reconstructed, "true frames fed": forced}
for name, result in results.items():
    nans = [t for t in range(1, 12) if result[:, t - 1].isnan().any()]
    print(f"{name:<16} NaN at t = {nans}")
assert predicted.isfinite().all()
assert reconstructed[:, 1:].isnan().all()
assert forced[:, 2:].isnan().all()
assert forced[:, :2].isfinite().all()

# %% [markdown]
# The prediction is finite. The reconstruction is NaN from $t = 2$, the first step whose posterior
# sees a frame after the context. With true frames fed it is NaN from $t = 3$. A reconstruction sees
# its target. It says how much $z$ can carry, and must never be reported as a prediction.
#
# `labkit.evaluation.leakage.prove` does this and more with any function that predicts:

# %%
from labkit.evaluation.leakage import predictor_of, prove


def with_true_frames(frames, condition, n_past):
    """A dishonest predictor: it feeds the true frames."""
    epsilon = torch.randn(len(frames), frames.shape[1] - 1, 8)
    rollout = unroll(model, frames, condition, n_past, epsilon, z_from="prior", teacher_forced=True)
    return rollout.frames[:, n_past - 1 :]


short = frames[:, :5], condition[:, :5]
leaks = {}
for name, predict in (("model.predict", predictor_of(model)), ("dishonest", with_true_frames)):
    leaks[name] = [finding.leak for finding in prove(predict, short).findings]
    print(f"{name:<14} {', '.join(leaks[name]) or 'no leak found'}")
assert not leaks["model.predict"]
assert leaks["dishonest"] == ["teacher forcing"]

# %% [markdown]
# ## 3.8 Mistake: skip features of the wrong frame
#
# The decoder gets the encoder's feature maps of one frame. The preset `course` takes them from the
# last context frame, frame 1. A common loop has `i < n_past` in the wrong place, and takes them
# from frame 0 (`skip="svg"`). How much does each context frame count for $\hat x_2$, with the same
# weights? We replace one frame by its negative.

# %%
effect = {}
for skip in ("last_context", "svg"):
    network = VideoCVAE(dataclasses.replace(small_course_model(), skip=skip), 7).eval()
    network.load_state_dict(model.state_dict())
    for t in (0, 1):
        changed = frames[:, :2].clone()
        changed[:, t] = 1 - changed[:, t]
        with torch.no_grad():
            one, other = (
                network.predict(x, condition, 1, sample=False) for x in (frames[:, :2], changed)
            )
        effect[skip, t] = (one - other).abs().mean().item()

# %%
for skip in ("last_context", "svg"):
    share = effect[skip, 1] / (effect[skip, 0] + effect[skip, 1])
    print(f"{skip:<13} frame 1 has {100 * share:3.0f} % of the effect, frame 0 the rest")
assert effect["last_context", 1] > 5 * effect["last_context", 0]
assert effect["svg", 0] > 5 * effect["svg", 1]

# %% [markdown]
# With random weights nearly all of the effect goes through the skip features. With the mistake the
# decoder gets the arm as it was in frame 0, although frame 1 is known.
#
# ## 3.9 Batch norm: another function in the test than in training
#
# The batch norm of the course's model uses the mean and variance of the *batch* in training, and
# their moving averages in the test. The moving averages come from true frames. A free-running
# rollout feeds predictions, which are smoother, so their mean and variance are different. To
# measure this, the small model is trained for some seconds (page 4 explains how).

# %%
training_frames, training_condition = simulated_windows(16, first=10)
trained = train_small(training_frames, training_condition, updates=40)
test_frames, test_condition = simulated_windows(6, first=100)
zeros = torch.zeros(6, 11, 8)  # z = 0: no noise of samples

# %% [markdown]
# First the variances. For each batch-norm layer of the encoder we divide the variance of the batch
# by the stored moving average. The ratio is 1 if the batch looks like the training data.


# %%
def variance_ratio(pictures):
    """Batch variance / moving average, geometric mean over channels and layers."""
    ratios = []

    def note(layer, inputs, output):
        variance = inputs[0].var(dim=(0, 2, 3))
        ratios.append((variance / layer.running_var).log().mean())

    layers = [each for each in trained.encoder.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    with torch.no_grad():
        trained.encoder(pictures)
    for hook in hooks:
        hook.remove()
    return torch.stack(ratios).mean().exp().item()


# %%
import matplotlib.pyplot as plt

with torch.no_grad():
    free_running = trained.rollout(
        test_frames, test_condition, 2, teacher_forced=False, noise=zeros
    ).frames
steps = range(1, 12)
ratio_of = {
    "true frames": [variance_ratio(test_frames[:, t]) for t in steps],
    "predicted frames": [variance_ratio(free_running[:, t - 1]) for t in steps],
}
plt.figure(figsize=(5.5, 2.8))
for (name, ratios), marker in zip(ratio_of.items(), "os", strict=True):
    plt.plot(steps, ratios, marker + "-", label=name)
plt.xlabel("time step t")
plt.ylabel("variance / moving average")
plt.ylim(0, 1)
plt.legend()
plt.show()

# %%
for name, ratios in ratio_of.items():
    print(f"{name:<17} variance / moving average at t = 11: {ratios[-1]:.1f}")
pairs = zip(*ratio_of.values(), strict=True)
assert all(of_predictions < of_truth - 0.1 for of_truth, of_predictions in pairs)

# %% [markdown]
# Predicted frames have a smaller variance than true frames. The moving averages do not fit them.
# What does this cost in dB? We compute the same rollouts twice: with the moving averages, and with
# the statistics of the batch itself.

# %%
from labkit.evaluation import psnr

psnr_of = {}
for statistics in ("moving average", "own batch"):
    trained.train(statistics == "own batch")
    weights = {name: value.clone() for name, value in trained.state_dict().items()}
    for forced in (True, False):
        with torch.no_grad():
            predicted = trained.rollout(
                test_frames, test_condition, 2, teacher_forced=forced, noise=zeros
            ).frames
        psnr_of[statistics, forced] = psnr(predicted, test_frames[:, 1:]).mean(dim=0)
        trained.load_state_dict(weights)  # a rollout in training mode moves the averages
trained = trained.eval()

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True, layout="constrained")
for axis, forced in zip(axes, (True, False), strict=True):
    for statistics, marker in (("moving average", "o-"), ("own batch", "s--")):
        axis.plot(steps, psnr_of[statistics, forced], marker, label=statistics)
    axis.set_title("true frames fed" if forced else "free-running")
    axis.set_xlabel("time step t")
axes[0].set_ylabel("PSNR, dB")
axes[0].legend(title="statistics")
plt.show()

# %% [markdown]
# The same weights give two curves in each panel. The distance between the curves is the effect of
# the statistics. It is larger in the free-running rollout.

# %%
distance = {}
for forced in (True, False):
    difference = psnr_of["moving average", forced] - psnr_of["own batch", forced]
    distance[forced] = difference[2:].abs().mean().item()
print("mean distance from t = 3 on: below 0.3 dB with true frames, above 0.3 dB free-running")
assert distance[True] < 0.3 < distance[False]

# %% [markdown]
# Group norm (Wu & He 2018) takes its statistics from each frame alone. It is the same function in
# training and in the test. The preset `demo` uses it.

# %%
for norm in ("batch", "group"):
    encoder = VideoCVAE(dataclasses.replace(small_course_model(), norm=norm), 7).encoder
    with torch.no_grad():
        h_training, h_test = encoder.train()(frames[:, 0])[0], encoder.eval()(frames[:, 0])[0]
    largest = (h_training - h_test).abs().max().item()
    print(f"{norm} norm: h in training and in the test differ by up to {largest:.1f}")
assert largest == 0

# %% [markdown]
# ## 3.10 Extensions
#
# | option | what changes in the equations |
# | --- | --- |
# | `prior="learned"` | $p(z_t)$ becomes $p_\psi(z_t \mid x_{<t}, c_{<t})$, by its own LSTM |
# | `conditioning="conv"` | map $m_k$ becomes $\mathrm{softplus}(u_k^\top c)\, m_k + v_k^\top c$ |
# | `latent_levels=3` | 2 latent maps more: $p(z^1)\, p(z^2 \mid z^1)\, p(z^3 \mid z^{1:2})$ |
#
# $m_k$ is feature map $k$ of a layer; the vectors $u_k$ and $v_k$ are learned. A latent map is a
# latent variable with a value at each place of a small grid, and $z^1$, $z^2$, $z^3$ are the
# latents of one time step. The first option is by Denton & Fergus (2018), the second by Choi et al.
# (2019), the third after Lin et al. (2020).
#
# One call each shows the shapes:

# %%
options = {
    "as the course": {},
    "learned prior": {"prior": "learned"},
    "conditional convolution": {"conditioning": "conv"},
    "latent maps": {"latent_levels": 3},
}

# %%
priors = {}
print(f"{'':<24}parameters  latent numbers of a step  prior of 11 steps")
for name, option in options.items():
    network = VideoCVAE(dataclasses.replace(small_course_model(), **option), 7).eval()
    with torch.no_grad():
        priors[name] = network.rollout(frames, condition, 2, teacher_forced=True).prior
    count = sum(p.numel() for p in network.parameters())
    print(
        f"{name:<24}{count:>10,}  {sum(network.latent_sizes):>24}  {tuple(priors[name].mean.shape)}"
    )

# %% [markdown]
# A fixed prior is $\mathcal{N}(0, I)$ at every step; a learned one has its own mean at each step.

# %%
assert (priors["as the course"].mean == 0).all()
assert priors["learned prior"].mean.abs().max() > 0
assert (priors["learned prior"].mean[:, 0] != priors["learned prior"].mean[:, 1]).any()
assert priors["latent maps"].mean.shape[-1] > priors["as the course"].mean.shape[-1]

# %% [markdown]
# ## 3.11 From the decoder's output to a frame
#
# The course's decoder computes every pixel of every frame anew, and its last layer is a sigmoid.
# But nearly all pixels are the same as in the frame before. With `output="flow"` (after Finn et al.
# 2016) there are three sources: the previous frame *moved* by a flow, the last context frame, and
# painted pixels for what neither of them shows. Masks that sum to 1 at each pixel blend them.
#
# $$\hat x_t = m_1 \odot \mathrm{warp}(\hat x_{t-1}, f) + m_2 \odot x_{\text{context}}
#   + m_3 \odot \text{painted}$$
#
# $\odot$ is the product at each pixel. The flow $f$ says where to read, in pixels: with $f = (6,
# 0)$ everything moves 6 pixels to the left.

# %%
from IPython.display import Image

from labkit.model.output import warp
from labkit.views import filmstrip, png_bytes, to_uint8

steps = torch.tensor([0.0, 3.0, 6.0, 9.0])
flow = torch.zeros(4, 2, 64, 64)
flow[:, 0] = steps[:, None, None]
moved = warp(frames[:1, 0].expand(4, -1, -1, -1), flow)

difference = (moved[2, :, :, :58] - frames[0, 0, :, :, 6:]).abs().max()
print(f"moved by 6 pixels, the largest difference is {difference:.4f}")
assert difference < 1e-4
Image(png_bytes(filmstrip({"moved 3 t pixels": to_uint8(moved.clamp(0, 1))}, scale=2)))

# %% [markdown]
# At the right the last column of the frame is repeated, because the flow reads beyond the border.
# For such places there are the masks and the painted pixels.
#
# A frame that is moved at every step becomes more blurred at every step. After ten steps the arm
# would be very blurred. The preset `demo` has `output="scene"`: a frame is composed of a table, an
# arm, and painted pixels (`fresh`). Table and arm are stored once and are not moved again and
# again. No label says which pixels are the arm. But most of what moves is arm. So the demo first
# trains the picture of the arm alone, on single frames: laid over the median of its clip, it should
# give the frame. Then it trains the whole model. We look at the demo's weights (page 5) on a test
# clip:

# %%
from pathlib import Path

from labkit.data.simulator import SPLIT_OFFSETS
from labkit.evaluation.sources import predicted_sources
from labkit.training import load_model

trained, _ = load_model(Path("demo_run"))
clip, its_condition = simulated_windows(1, first=SPLIT_OFFSETS["test"] + 2)
predicted, weights = predicted_sources(trained, clip[:, :2], its_condition, 10)
predicted, past = predicted[0], clip[0, :2]

total = sum(weights.values())
print("sources:", ", ".join(sorted(weights)))
assert (total - 1).abs().max() < 1e-3  # the masks sum to 1 at each pixel

# %%
blank = torch.ones_like(past)
rows = {"truth": clip[0], "prediction": torch.cat([past, predicted])}
for name, weight in weights.items():
    rows[f"from: {name}"] = torch.cat([blank, 1 - weight[0].expand(-1, 3, -1, -1)])
shown = {name: to_uint8(each.clamp(0, 1)) for name, each in rows.items()}
Image(png_bytes(filmstrip(shown, n_past=2, steps=(1, 2, 4, 6, 8, 11))))

# %% [markdown]
# In the lower rows a pixel is dark where it comes from the row's source. Context frames have no
# sources.

# %%
repeated = past[1:].expand_as(predicted)
gain = psnr(predicted, clip[0, 2:]).mean() - psnr(repeated, clip[0, 2:]).mean()
print(f"{gain:.0f} dB better than repeating frame 1, on this clip")
assert gain > 3

# %% [markdown]
# ## Summary
#
# 1. A step: encode the frame fed, draw $z_t$, one LSTM step, decode with skip features.
# 2. Teacher forcing decides which frame is fed. Where $z_t$ comes from is another question.
# 3. $z = \mu + \sigma \epsilon$: the gradient reaches $\mu$ and $\log \sigma^2$.
# 4. A prediction reads the context and $c_{<t}$ alone; NaN in all other inputs proves it.
# 5. Batch norm computes another function in the test than in training; group norm does not.
#
# ## What can go wrong
#
# - $z$ from a fixed Gaussian in free-running training. See 3.5.
# - Skip features from frame 0. See 3.8.
# - A reconstruction reported as a prediction. See 3.7.
# - $c_t$ given where $c_{t-1}$ belongs. The leak proof names it.
# - The LSTM's state of one clip is used at the start of the next one.
#
# ## More exercises
#
# 3. In 3.4, which steps change when *condition* 5 does? Predict it for each rollout, then measure.
# 4. Make a predictor that reads the mean colour of the future frames only. Does `prove` find it?
# 5. In 3.9, use a batch of one clip in training mode. What happens to the curves, and why?
#
# ## Links
#
# - E. Denton, R. Fergus, *Stochastic Video Generation with a Learned Prior*, 2018:
#   <https://arxiv.org/abs/1802.07687>
# - S. Bengio et al., *Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks*,
#   2015: <https://arxiv.org/abs/1506.03099>
# - C. Finn, I. Goodfellow, S. Levine, *Unsupervised Learning for Physical Interaction through Video
#   Prediction*, 2016: <https://arxiv.org/abs/1605.07157>
# - Y. Choi et al., *Variable Rate Deep Image Compression With a Conditional Autoencoder*, 2019:
#   <https://arxiv.org/abs/1909.04802>
# - Y. Wu, K. He, *Group Normalization*, 2018: <https://arxiv.org/abs/1803.08494>
# - In the package: `labkit/reference/model.py` (the loop of this page),
#   `labkit/model/video_cvae.py`, `labkit/model/step.py`, `labkit/model/README.md` (all options),
#   `labkit/evaluation/leakage/proof.py`.
#
# Next: [04_training](04_training.ipynb), how the weights are trained.
