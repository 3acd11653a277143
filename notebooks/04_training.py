# %% [markdown]
# # 4 · Training: one update, two schedules, and whether $z$ is used
#
# [03_model](03_model.ipynb) turned a batch into a rollout: predicted frames, and a posterior $q$
# and a prior $p$ for every step. This page computes one number from the rollout, the negative ELBO
# of [01_elbo_derivation](01_elbo_derivation.ipynb), and changes the weights by its gradient.
#
# **After this page you can**
#
# 1. write the objective with its reductions, and say what observation noise a $\beta$ means;
# 2. write one training step, and the two schedules of the coursework;
# 3. recognise a collapsed posterior by three numbers;
# 4. compare monotonic, cyclical and no KL annealing by curves of KL and PSNR;
# 5. say what teacher forcing brings and what it costs, by the PSNR of each time step.
#
# **You need** pages [1](01_elbo_derivation.ipynb) to [3](03_model.ipynb), gradient descent, Adam.
#
# **Time**: about 60 minutes to read and to solve the exercises; about two minutes to run.

# %%
import labkit
from labkit.course.checks import (
    CheckFailed,
    check_kl_weight,
    check_teacher_forcing_ratio,
    check_training_step,
)

labkit.lab_setup()

# %% [markdown]
# ## 4.1 The objective and its reductions
#
# $$\mathcal{L} = \underbrace{\frac{1}{D}\,\lVert x_t - \hat x_t \rVert^2}_{\text{mean over the }
# D = 12288 \text{ values of a frame}} \; + \; \beta \underbrace{\sum_{i} \mathrm{KL}\left(
# q_\phi(z_{t,i} \mid x_{1:t}) \,\|\, p(z_{t,i})\right)}_{\text{sum over latent dimensions}}$$
#
# averaged over time steps and clips. This is `observation="fixed"`, as in the course's sample code.
# A $\beta$ without these reductions has no meaning. If a mean is replaced by a sum, the same
# training has another $\beta$.

# %%
import math

import torch

from labkit.course.small_model import simulated_windows, small_course_model
from labkit.data.dataset import Batch
from labkit.model import VideoCVAE
from labkit.training import negative_elbo

D, latent_size, beta = 3 * 64 * 64, 8, 1e-4
batch = Batch(*simulated_windows(2, first=3))
model = VideoCVAE(small_course_model(), condition_size=7).train()
rollout = model.rollout(batch.frames, batch.condition, 2, teacher_forced=True)
targets = batch.frames[:, 1:]
objective = negative_elbo(rollout, targets, beta)

# %%
error = (rollout.frames - targets).square()
pixel_mean, pixel_sum = error.mean(), error.sum(dim=(2, 3, 4)).mean()
kl = objective.kl  # summed over the latents, averaged over steps and clips
losses = {
    "mean over pixels, KL summed": pixel_mean + beta * kl,
    "sum over pixels, KL summed": (pixel_sum + beta * D * kl) / D,
    "mean over pixels, KL averaged": pixel_mean + beta * latent_size * (kl / latent_size),
}
for (name, loss), number in zip(losses.items(), (1, D, latent_size), strict=True):
    print(f"{name:<31} beta {beta * number:g}")
    assert torch.isclose(loss, objective.loss)

# %% [markdown]
# Three values of $\beta$, one loss.
#
# ## 4.2 Mistake: a $\beta$ that is copied from other code
#
# Page 1, section 1.12, shows what $\beta$ says about the noise of a pixel:
# $\sigma = \sqrt{\beta D / 2}$, for pixels in [0, 1]. We solve this for $\beta$, with $\sigma^2$
# equal to the error of the model: $\beta = 2\,\text{MSE} / D$. This is the calibrated $\beta$
# (Rybkin et al. 2021).


# %%
def sigma_of(beta):
    """The observation noise that a KL weight means, for pixels in [0, 1]."""
    return math.sqrt(beta * D / 2)


def calibrated_beta(psnr):
    """The KL weight whose noise is the model's own error."""
    return 2 * 10 ** (-psnr / 10) / D


for weight in (1.0, 1e-4, 1e-6, calibrated_beta(24.5)):
    print(f"beta {weight:7.1e}   sigma {sigma_of(weight):6.3f}")

# %% [markdown]
# Pixels lie in [0, 1], so a $\sigma$ above 0.5 says that a frame is all noise. The weight
# $\beta = 10^{-4}$ of SVG's code means $\sigma = 0.78$ with this page's reductions. At 24.5 dB the
# calibrated weight is $6 \cdot 10^{-7}$. The coursework's maximum is 1.

# %%
assert abs(sigma_of(1e-4) - 0.78) < 0.01
assert abs(calibrated_beta(24.5) - 5.8e-7) < 1e-8
assert math.isclose(sigma_of(calibrated_beta(24.5)), 10 ** (-24.5 / 20))
psnr_of_1e4 = -10 * math.log10(sigma_of(1e-4) ** 2)
print(f"beta 1e-4 is calibrated for a model with a PSNR of {psnr_of_1e4:.0f} dB")
assert psnr_of_1e4 < 5

# %% [markdown]
# ## 4.3 Mistake: cross entropy in place of the squared error
#
# Cross entropy compares *distributions*. `cross_entropy(prediction, frame)` treats the three colour
# channels of a pixel as the scores of three classes. It returns a number, and the number falls in
# training, so nothing crashes. We start at a grey frame and lower each loss by gradient descent.

# %%
from torch.nn import functional

truth = batch.frames[0, :1]


def cross_entropy(prediction, frame):
    return functional.cross_entropy(prediction, frame)


def squared_error(prediction, frame):
    return (prediction - frame).square().mean()


results = {}
for criterion in (squared_error, cross_entropy):
    guess = torch.full_like(truth, 0.5).requires_grad_()
    for _ in range(100):
        (gradient,) = torch.autograd.grad(criterion(guess, truth), guess)
        guess = (guess - 4096 * gradient).detach().clamp(0, 1).requires_grad_()
    results[criterion] = guess.detach()

# %%
from IPython.display import Image

from labkit.views import filmstrip, png_bytes, to_uint8

rows = {
    "ground truth": to_uint8(truth),
    "lowest squared error": to_uint8(results[squared_error]),
    "lowest cross entropy": to_uint8(results[cross_entropy]),
}
Image(png_bytes(filmstrip(rows, scale=3)))

# %%
for criterion, guess in results.items():
    name, at_truth, at_end = criterion.__name__, criterion(truth, truth), criterion(guess, truth)
    mse = squared_error(guess, truth).item()
    print(f"{name:<14} at the truth {at_truth:5.2f}, after descent {at_end:5.2f}, MSE {mse:.2f}")
assert squared_error(truth, truth) == 0
assert cross_entropy(truth, truth) > 0.5
assert cross_entropy(results[cross_entropy], truth) < cross_entropy(truth, truth)
assert squared_error(results[squared_error], truth) < 1e-6
assert squared_error(results[cross_entropy], truth) > 0.01
assert torch.isclose(cross_entropy(truth + 0.2, truth), cross_entropy(truth, truth))

# %% [markdown]
# The cross entropy of a frame with itself is not 0, and its minimum is another picture. If all
# three scores of a pixel grow by the same number, the classes do not change. So this loss does not
# see how bright a pixel is: a frame that is brighter by 0.2 has the same loss (last line of the
# cell).
#
# ## 4.4 One training step
#
# **Exercise 1.** Write one update. `model.rollout(frames, condition, 2, teacher_forced=forced)`
# returns `frames`, and `posterior` and `prior` with `mean` and `log_variance` of (B, T-1, z). The
# loss is that of 4.1, over $x_1, \dots, x_{T-1}$. Return it as a number.


# %% nbgrader={"grade": false, "grade_id": "training-step", "locked": false, "schema_version": 3, "solution": true, "task": false}
def training_step(model, optimizer, batch, beta, forced):
    """One update of the weights; returns the loss."""
    ### BEGIN SOLUTION
    rollout = model.rollout(batch.frames, batch.condition, 2, teacher_forced=forced)
    error = (rollout.frames - batch.frames[:, 1:]).square().mean()
    q, p = rollout.posterior, rollout.prior
    squared = torch.exp(q.log_variance) + (q.mean - p.mean) ** 2
    each = 0.5 * (p.log_variance - q.log_variance + squared / torch.exp(p.log_variance) - 1)
    kl = each.sum(dim=-1).mean()
    loss = error + beta * kl
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-training-step", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check_training_step(training_step)

# %% [markdown]
# The check recognises the mistakes of 4.1 and 4.3, and a forgotten `zero_grad`:


# %%
def step_with(error_of, kl_of, clear=True):
    """A training step with another error, another KL, or without zero_grad."""

    def step(model, optimizer, batch, beta, forced):
        rollout = model.rollout(batch.frames, batch.condition, 2, teacher_forced=forced)
        q = rollout.posterior
        each = 0.5 * (q.log_variance.exp() + q.mean**2 - 1 - q.log_variance)
        loss = error_of(rollout.frames, batch.frames[:, 1:]) + beta * kl_of(each)
        if clear:
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


# %%
def over_latents(each):
    return each.sum(dim=-1).mean()


def on_frames(prediction, frames):
    return cross_entropy(prediction.flatten(0, 1), frames.flatten(0, 1))


for mistaken in (
    step_with(on_frames, over_latents),
    step_with(squared_error, torch.mean),
    step_with(squared_error, over_latents, clear=False),
):
    try:
        check_training_step(mistaken, seed=1)
        raise AssertionError("the check must fail")
    except CheckFailed as failure:
        print("-", failure.hint)

# %% [markdown]
# ## 4.5 Schedule one: KL annealing
#
# The KL weight starts at 0 and rises. At 0 the loss has no KL term, so the model can use $z$ at no
# cost. In **monotonic** annealing (Bowman et al. 2016) the weight rises once. In **cyclical**
# annealing (Fu et al. 2019) it starts again several times. In each cycle it rises during the first
# 1/ratio of the cycle's length. Then it stays at its maximum.
#
# **Exercise 2.** Write the weight, in [0, 1]. `epoch` counts from 0 to `epochs - 1`. `kind` is
# "constant" (1 at every epoch), "monotonic" (one cycle over all epochs) or "cyclical". A cycle has
# `epochs / cycles` epochs. This need not be a whole number.


# %% nbgrader={"grade": false, "grade_id": "kl-weight", "locked": false, "schema_version": 3, "solution": true, "task": false}
def kl_weight(epoch, epochs, kind, cycles, ratio):
    """The KL weight beta of an epoch, in [0, 1]."""
    ### BEGIN SOLUTION
    if kind == "constant":
        return 1.0
    if kind == "monotonic":
        cycles = 1
    done = epoch * cycles % epochs / epochs  # share of the cycle that is done
    return min(1.0, ratio * done)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-kl-weight", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check_kl_weight(kl_weight)

# %% [markdown]
# We compute some values by hand, for the course's 300 epochs, 3 cycles and ratio 2. A cycle takes
# 100 epochs and its ramp 50. At epoch 25 the weight is 0.5, at epoch 99 it is 1, and at epoch 100
# it is 0 again.

# %%
for epoch, expected in ((25, 0.5), (50, 1.0), (99, 1.0), (100, 0.0), (125, 0.5)):
    weight = kl_weight(epoch, 300, "cyclical", 3, 2.0)
    print(f"epoch {epoch:3}  {weight:.2f}")
    assert weight == expected

# %% [markdown]
# ## 4.6 Schedule two: teacher forcing, and a mistake in it
#
# The **teacher-forcing ratio** is the probability that true frames are fed after the context. It is
# drawn once for each batch. At ratio 1 every step has a sharp input, and the encoder can process
# all frames at once. (The LSTM cannot: each of its steps needs the state of the step before.) But
# in the test there are no true frames. So the ratio falls during training (scheduled sampling,
# Bengio et al. 2015).
#
# **Exercise 3.** Write the ratio: `start` up to epoch `decay_start`, then `step` less with each
# epoch, never below `bound`.


# %% nbgrader={"grade": false, "grade_id": "teacher-forcing-ratio", "locked": false, "schema_version": 3, "solution": true, "task": false}
def teacher_forcing_ratio(epoch, start, step, decay_start, bound):
    """The teacher-forcing ratio of an epoch."""
    ### BEGIN SOLUTION
    return max(bound, start - step * max(0, epoch - decay_start))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-teacher-forcing-ratio", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check_teacher_forcing_ratio(teacher_forcing_ratio)

# %% [markdown]
# A common version stores the ratio and lowers it while it is at or above its bound. The last step
# then ends *below* the bound:


# %%
def lowered_while_above(epoch, start, step, decay_start, bound):
    ratio = start
    for now in range(1, epoch + 1):
        if now > decay_start and ratio >= bound:
            ratio -= step
    return ratio


ratios_with_mistake = [lowered_while_above(epoch, 1.0, 0.3, 2, 0.05) for epoch in range(9)]
right = [teacher_forcing_ratio(epoch, 1.0, 0.3, 2, 0.05) for epoch in range(9)]
print("mistake ", " ".join(f"{ratio:5.2f}" for ratio in ratios_with_mistake))
print("right   ", " ".join(f"{ratio:5.2f}" for ratio in right))
assert min(ratios_with_mistake) < 0 < 0.05 == min(right)

# %%
try:
    check_teacher_forcing_ratio(lowered_while_above, seed=1)
    raise AssertionError("the check must fail")
except CheckFailed as failure:
    print(failure.hint)

# %% [markdown]
# With the mistake the ratio is negative, so it is no probability. The package's own schedules give
# the same numbers as the two exercises:

# %%
import numpy as np

from labkit.config import KLConfig, TeacherForcingConfig
from labkit.training import schedules
from labkit.views import schedules as schedules_figure

forcing = TeacherForcingConfig(start=1.0, decay_start=0, decay_step=0.01, lower_bound=0.0)
panels = {}
for kind in ("cyclical", "monotonic", "constant"):
    config = KLConfig(schedule=kind, cycles=3, ratio=2.0)
    weights = [schedules.kl_weight(epoch, 300, config) for epoch in range(300)]
    ratios = [schedules.teacher_forcing_ratio(epoch, forcing) for epoch in range(300)]
    panels[kind] = {
        "kl_weight": np.array(weights),
        "teacher_forcing_ratio": np.array(ratios),
    }
    assert np.allclose(weights, [kl_weight(epoch, 300, kind, 3, 2.0) for epoch in range(300)])
    own = [teacher_forcing_ratio(epoch, 1.0, 0.01, 0, 0.0) for epoch in range(300)]
    assert np.allclose(ratios, own)

# %%
schedules_figure(panels)

# %% [markdown]
# ## 4.7 The package's training, on one page
#
# A whole training is a loop over updates. `labkit/reference/training.py` has it on one page. This
# is its main part:

# %%
import inspect

from labkit.reference import training as reference

source = inspect.getsource(reference.train)
print(source[source.index("    # Data order") :])

# %% [markdown]
# Now one update by hand, on eight simulated clips. The preset `smoke` trains for seconds. It is for
# tests, not for results. First the schedules and the draws of update 0:

# %%
import dataclasses
import os
import tempfile
from pathlib import Path

from labkit.data.dataset import ClipDataset
from labkit.data.simulator import simulate_pack
from labkit.presets import preset

notebooks = Path.cwd()
temporary = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
os.chdir(temporary.name)  # what this page writes goes with it
simulate_pack("clips", 1, {"train": 8, "validate": 4}, progress=False)

smoke = preset("smoke")
config = dataclasses.replace(
    smoke,
    data=dataclasses.replace(smoke.data, root="clips"),
    training=dataclasses.replace(smoke.training, epochs=1, updates_per_epoch=1),
)

# %%
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from labkit.training.data_order import UpdateSampler, seed_of

t = config.training
clips = ClipDataset.from_config(config.data, "train", labels=False)
torch.manual_seed(seed_of(config.seed, "weights", 0))
model = VideoCVAE(config.model, config.data.condition_size)
mean, std = clips.condition_statistics()
model.set_condition_statistics(torch.from_numpy(mean), torch.from_numpy(std))
model.to(memory_format=torch.channels_last)
adam = torch.optim.Adam(model.parameters(), t.learning_rate, (t.adam_beta1, 0.999), fused=True)
average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(t.ema_decay), use_buffers=True)

(windows,) = UpdateSampler(len(clips), t.batch_size, config.seed, range(1))
schedule = schedules.schedule_at(0, config)
adam.param_groups[0]["lr"] = schedule["learning_rate"]
print(f"KL weight {schedule['kl_weight']:g}, ratio {schedule['teacher_forcing_ratio']:g}")

# %% [markdown]
# Then the update: forward, objective, backward, clip, step, moving average.

# %%
seed = seed_of(config.seed, "draws", 0)
forced = bool(np.random.default_rng(seed).random() < schedule["teacher_forcing_ratio"])
generator = torch.Generator().manual_seed(seed)
one = clips.batch(windows).to("cpu")

rollout = model.rollout(
    one.frames, one.condition, 2, teacher_forced=forced, generator=generator
)  # forward
loss = negative_elbo(
    rollout, one.frames[:, 1:], schedule["kl_weight"], config.model.observation, config.kl
).loss
adam.zero_grad()
loss.backward()  # the gradient of every weight
norm = torch.nn.utils.clip_grad_norm_(model.parameters(), t.gradient_clip)
adam.step()
average.update_parameters(model)
print(f"gradient norm about {norm:.0f}, limited to {t.gradient_clip:g}")

# %% [markdown]
# The same update by the package, and by the reference page:

# %%
from labkit.training import train
from labkit.training.checkpoint import load_checkpoint

train(config, "one", progress=False, device="cpu")
engine = load_checkpoint(Path("one"))["module"]
by_reference, _ = reference.train(config)

assert all(torch.equal(engine[name], value) for name, value in model.state_dict().items())
by_page = by_reference.state_dict()
assert all(torch.equal(engine[name], value) for name, value in by_page.items())
print(f"{len(engine)} tensors: equal to the last bit")

# %% [markdown]
# The same holds for a whole training of six epochs with four updates each. Here we compare the
# moving averages:

# %%
config = dataclasses.replace(
    config, training=dataclasses.replace(config.training, epochs=6, updates_per_epoch=4)
)
rows = train(config, "run", progress=False, device="cpu")
_, average = reference.train(config)
stored = load_checkpoint(Path("run"))["average"]
assert all(torch.equal(stored[name], value) for name, value in average.state_dict().items())

print("epoch  KL weight  teacher forcing  learning rate")
for row in rows:
    numbers = f"{row.kl_weight:11.2f}{row.teacher_forcing_ratio:17.2f}{row.learning_rate:15.4f}"
    print(f"{row.epoch:5}{numbers}")
print("run:", *sorted(file.name for file in Path("run").iterdir() if file.is_file()))

# %% [markdown]
# `config.json` has the settings, and `history.csv` has one row for each epoch. `model.safetensors`
# has the weights with the best PSNR on the validation clips. `checkpoint.pt` has everything that is
# needed to continue. The next training is stopped by a time limit and then resumed. It ends with
# the same weights:

# %%
train(config, "stopped", minutes=1e-9, progress=False, device="cpu")
print("updates done:", load_checkpoint(Path("stopped"))["update"])
train(config, "stopped", resume=True, progress=False, device="cpu")

whole, resumed = (load_checkpoint(Path(name))["module"] for name in ("run", "stopped"))
assert all(torch.equal(whole[name], resumed[name]) for name in whole)
os.chdir(notebooks)
temporary.cleanup()

# %% [markdown]
# ## 4.8 Posterior collapse: its cause, its signs, its name
#
# The latent is needed where the future is not known. So this section leaves out the condition
# (`data.condition=none`, the task of SVG). The motion of the arm itself is then unknown. We train
# twice for 80 updates. Only $\beta$ differs.

# %%
frames, _ = simulated_windows(32, first=10)
unseen, rows = simulated_windows(16, first=100)
test = Batch(unseen, rows[:, :, :0])  # no columns: no condition
small = dataclasses.replace(small_course_model(), posterior_log_variance_start=-6)


def trained(beta, updates=80):
    """The small model after some teacher-forced updates, and the KL of each."""
    torch.manual_seed(1)
    model, kl = VideoCVAE(small, condition_size=0).train(), []
    adam = torch.optim.Adam(model.parameters(), lr=0.002)
    for _ in range(updates):
        chosen = frames[torch.randperm(len(frames))[:8]]
        rollout = model.rollout(chosen, chosen.new_empty(8, 12, 0), 2, teacher_forced=True)
        objective = negative_elbo(rollout, chosen[:, 1:], beta)
        adam.zero_grad()
        objective.loss.backward()
        adam.step()
        kl.append(objective.kl.item())
    return model.eval(), kl


# %%
import matplotlib.pyplot as plt

models = {}
plt.figure(figsize=(6, 3))
for weight in (0.0, 1.0):
    models[weight], kl = trained(weight)
    plt.plot(range(1, 81), kl, label=f"beta = {weight:g}")
plt.xlabel("update")
plt.ylabel("KL, nats per step")
plt.ylim(bottom=0)
plt.legend()
plt.show()

# %% [markdown]
# With $\beta = 1$ the KL falls towards 0: the posterior becomes the prior. Three numbers say
# whether $z$ is used:
#
# - the KL, in nats per step;
# - the number of **active units**: latent dimensions whose posterior mean changes with the data
#   (variance above 0.01, Burda et al. 2016);
# - the **posterior gain**: the PSNR with $z$ from the posterior minus the PSNR with $z$ from the
#   prior.

# %%
from labkit.training.validation import examine

use = {beta: examine(model, test, 2, seed=1, examples=1)[0] for beta, model in models.items()}
for beta, found in use.items():
    gain = "above 0.3 dB" if found.posterior_gain > 0.3 else "below 0.1 dB"
    active = "1 or more" if found.active_units else "0"
    print(f"beta {beta:g}: active units: {active}, gain {gain}, collapsed: {found.collapsed}")
assert use[1.0].collapsed
assert use[1.0].active_units == 0
assert abs(use[1.0].posterior_gain) < 0.1
assert not use[0.0].collapsed
assert use[0.0].posterior_gain > 0.3

# %% [markdown]
# The second model has a **collapsed posterior**. All its samples are nearly equal:


# %%
deviation = {}
for weight, model in models.items():
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        samples = model.predict(
            test.frames[:4, :2], test.condition[:4], 10, samples=8, generator=generator
        )
    deviation[weight] = 255 * samples.std(dim=1).mean().item()

for weight, grey in deviation.items():
    print(f"beta {weight:g}: samples differ by {'more' if grey > 1 else 'less'} than 1 grey level")
assert deviation[0.0] > 1 > deviation[1.0]

# %% [markdown]
# `labkit train` measures KL, active units and posterior gain in each validation. They are columns
# of `history.csv`, and a training that ends with a collapsed posterior says so.
#
# ## 4.9 Monotonic, cyclical, or no annealing
#
# The folder `small_runs/` has the histories of nine trainings. Each has the small model of 4.8, 300
# updates and one seed. `small_runs/README.md` has the commands. The maximum of the KL weight is
# $3 \cdot 10^{-6}$. This is about the calibrated weight of the error that this model reaches (4.2).
# One run has the coursework's maximum of 1. First the task without a condition.

# %%
from labkit.training import read_history

stored_runs = Path("small_runs")
kinds = ("cyclical", "monotonic", "constant")
history = {folder.name: read_history(folder) for folder in sorted(stored_runs.glob("*_*"))}


# %%
from labkit.views import style


def draw_run(axes, h):
    """One run's history on three axes: KL, PSNR, and the two schedules."""
    validated = ~np.isnan(h["validation_psnr"])  # not every epoch has a validation
    epoch, prior = h["epoch"][validated], h["validation_psnr"][validated]
    posterior = prior + h["posterior_gain"][validated]
    weight = h["kl_weight"] / h["kl_weight"].max()
    forcing = h["teacher_forcing_ratio"]
    axes[0].plot(h["epoch"], h["kl"], color=style.PURPLE, label="KL")
    axes[1].plot(epoch, prior, color=style.BLUE, label="z from the prior")
    axes[1].plot(epoch, posterior, "--", color=style.GREEN, label="z from the posterior")
    axes[2].plot(h["epoch"], weight, color=style.VERMILION, label="KL weight / its maximum")
    axes[2].plot(h["epoch"], forcing, "--", color=style.SKY, label="teacher-forcing ratio")


# %%
def curves(runs):
    """One column for each run, named by its key."""
    size = {"figsize": (9, 6), "sharex": True, "sharey": "row", "layout": "constrained"}
    figure, axes = plt.subplots(3, len(runs), **size)
    for column, (name, h) in zip(axes.T, runs.items(), strict=True):
        draw_run(column, h)
        column[0].set_title(name)
        column[-1].set_xlabel("epoch")
    for axis, label in zip(axes[:, 0], ("KL, nats per step", "PSNR, dB", "schedule"), strict=True):
        axis.set_ylabel(label)
    handles = [line for axis in axes[:, 0] for line in axis.get_lines()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    plt.show()


# %%
without_condition = {kind: history[f"no_condition_{kind}"] for kind in kinds}
without_condition["cyclical, maximum 1"] = history["no_condition_cyclical_weight_1"]
curves(without_condition)


# %%
def last_of(name):
    """KL, one-sample PSNR, active units and posterior gain of the last epoch."""
    columns = ("kl", "validation_psnr", "active_units", "posterior_gain")
    return [history[name][column][-1] for column in columns]


print(f"{'':<32}KL, nats   PSNR, dB   active   posterior gain, dB")
for name in history:
    if name.startswith("no_condition"):
        kl, psnr_db, active, gain = last_of(name)
        print(f"{name:<32}{kl:8.1f}{psnr_db:11.1f}{active:9.0f}{gain:z21.1f}")

# %% [markdown]
# With the small maximum all three trainings end with a used latent. The posterior, which sees its
# target, is more than 3 dB better than a sample from the prior. The samples of the three are within
# 0.5 dB of each other. With the maximum of 1 the posterior has collapsed, although the schedule is
# cyclical. In these four trainings the **size** of the weight makes the difference, not the form of
# the schedule.

# %%
ends = {kind: last_of(f"no_condition_{kind}") for kind in kinds}
assert all(active == 8 and gain > 3 for _, _, active, gain in ends.values())
samples_db = [psnr_db for _, psnr_db, _, _ in ends.values()]
assert max(samples_db) - min(samples_db) < 0.5
kl, psnr_at_1, active, gain = last_of("no_condition_cyclical_weight_1")
assert kl < 1
assert active == 0
assert abs(gain) < 0.1

# %% [markdown]
# Can a restart bring back a collapsed latent? In the run with the maximum of 1 the KL falls during
# the first ramp. The weight is 0 again at epochs 11 and 21:

# %%
h = history["no_condition_cyclical_weight_1"]
for epoch in (1, 5, 10, 11, 12, 21, 22, 30):
    print(
        f"epoch {epoch:2}: KL weight {h['kl_weight'][epoch - 1]:.1f}, KL {h['kl'][epoch - 1]:5.2f}"
    )
assert h["kl_weight"][10] == h["kl_weight"][20] == 0
assert h["kl"][0] > 10
assert h["kl"][10:].max() < 0.5

# %% [markdown]
# In this run it cannot. The decoder has learned to ignore $z$. The error then hardly depends on
# $z$, so ten updates without a KL term do not move the posterior.
#
# The PSNR of *one sample* does not reward a used latent. The sample of a used $z$ is one of many
# possible futures. A collapsed model predicts their mean, which is blurred. (Page 5 explains why a
# blur has the highest PSNR.) A report should therefore give the posterior gain beside the PSNR.

# %%
print(f"best used latent {max(samples_db):.1f} dB, collapsed {psnr_at_1:.1f} dB")
assert psnr_at_1 > max(samples_db)

# %% [markdown]
# A network like the demo's can show both cases, too. The runs `free_run/` and
# `free_collapsed_run/` have no condition and 360 updates each. Their observation noise is fitted to
# the error (`observation="optimal"`), so a KL weight of 1 is the calibrated weight here. They
# differ in three settings:
#
# | | `free_run` | `free_collapsed_run` |
# | --- | --- | --- |
# | KL weight | 0 in the first half, then 1 | 1 from the first update |
# | posterior's variance at the start | $e^{-6}$ | 1, as the prior's |
# | posterior's mean | normalised over the batch | not normalised |

# %%
free = {"used": read_history(Path("free_run"))}
free["collapsed"] = read_history(Path("free_collapsed_run"))
curves(free)

# %%
columns = ("kl", "active_units", "validation_psnr", "posterior_gain")
for name, h in free.items():
    kl, active, sample, gain = (h[column][-1] for column in columns)
    print(f"{name:<10} KL {kl:4.1f} nats, {active:.0f} of 8 units active", end="")
    print(f", one sample {sample:.1f} dB, posterior gain {gain:z.1f} dB")
assert free["used"]["active_units"][-1] == 8
assert free["used"]["posterior_gain"][-1] > 3
assert free["collapsed"]["active_units"][-1] == 0
assert abs(free["collapsed"]["posterior_gain"][-1]) < 0.1

# %% [markdown]
# The PSNR of one sample is the same in both runs. Only the posterior gain and the active units show
# that the first one uses $z$. [06_drive_the_arm](06_drive_the_arm.ipynb) has pictures of their
# samples. These are two single trainings: they do not show which of the three settings is needed.
#
# Now the coursework's task, with actions and positions:

# %%
curves({kind: history[f"actions_{kind}"] for kind in kinds})

# %%
with_actions = {kind: last_of(f"actions_{kind}") for kind in kinds}
for kind, (kl, psnr_db, active, _) in with_actions.items():
    print(f"{kind:<10} KL {kl:.1f} nats, PSNR {psnr_db:.1f} dB, {active:.0f} active units")
spread = np.ptp([psnr_db for _, psnr_db, _, _ in with_actions.values()])
print(f"the three PSNR differ by {spread:.1f} dB")
assert spread < 0.5

# %% [markdown]
# Again the schedule changes little. But these are single trainings, with one seed and 300 updates
# each. They show what can happen, not which schedule is better. For that, `labkit experiment
# annealing` trains each schedule with several seeds and gives intervals. `docs/annealing/` has its
# result for the preset `free`, without actions, with three seeds. Without annealing the posterior
# collapsed in one training of three. With annealing it collapsed in none of nine.
#
# ## 4.10 Teacher forcing at 1, decayed, at 0
#
# Three of the runs with actions differ in the teacher-forcing ratio alone: always 1; from 1 to 0 in
# 10 epochs; always 0. All are tested in the same way, free-running, on 64 test clips. $z$ is the
# mean of the prior, so that the noise of samples does not hide the difference.

# %%
from labkit.evaluation import Evaluation

runs = {"ratio 1": "actions_always", "decayed": "actions_cyclical", "ratio 0": "actions_never"}
evaluations = {
    name: Evaluation.load(stored_runs / folder / "evaluation.json") for name, folder in runs.items()
}
first = next(iter(evaluations.values()))
steps = range(first.n_past, first.n_past + 10)
plt.figure(figsize=(6, 3.4))
for (name, evaluation), marker in zip(evaluations.items(), "os^", strict=True):
    mean = evaluation.per_step("psnr", "prior_mean")
    (line,) = plt.plot(steps, mean.value, f"{marker}-", label=name)
    plt.fill_between(steps, mean.low, mean.high, color=line.get_color(), alpha=0.15, lw=0)
plt.xlabel("time step t")
plt.ylabel("PSNR, dB")
plt.legend()
plt.show()

# %% [markdown]
# The bands are 95 % bootstrap confidence intervals over clips. Two models are compared clip by
# clip: the interval of the *difference* is narrower than the bands.

# %%
always = first.scores["psnr"]["prior_mean"]
drop = {}
for name, evaluation in evaluations.items():
    psnr_of_clips = evaluation.scores["psnr"]["prior_mean"]
    difference = first.resamples.mean((psnr_of_clips - always).mean(axis=1))
    per_step = psnr_of_clips.mean(axis=0)
    drop[name] = per_step[0] - per_step[-1]
    print(f"{name:<8} t = 2: {per_step[0]:.1f} dB, t = 11: {per_step[-1]:.1f} dB", end="")
    if name != "ratio 1":
        interval = f"[{difference.low:+.2f}, {difference.high:+.2f}]"
        print(f", minus ratio 1, all steps: {difference.value:+.2f} {interval}", end="")
        assert difference.low < 0 < difference.high
    print()
assert drop["ratio 1"] > drop["decayed"] + 0.3
assert drop["ratio 1"] > drop["ratio 0"] + 0.3

# %% [markdown]
# With ratio 1 the PSNR of the first step is the highest of the three. But from the first to the
# last step this curve falls by at least 0.3 dB more than the other two. This is **exposure bias**.
# The model has learned from sharp, true frames alone, and in the test it is fed its own
# predictions.
#
# The last column compares the means over all steps. Both intervals contain 0: on average over the
# steps, these clips show no difference. The intervals are over clips. They say nothing about other
# seeds: each curve is one training. (The weights are those of the epoch with the best PSNR on the
# validation clips.)

# %%
first_step = {
    name: evaluation.scores["psnr"]["prior_mean"][:, 0].mean()
    for name, evaluation in evaluations.items()
}
assert max(first_step, key=first_step.get) == "ratio 1"

# %% [markdown]
# Benefits and drawbacks, for the report:
#
# | | teacher forcing | free-running |
# | --- | --- | --- |
# | input of a step | true and sharp | predicted, with errors |
# | gradient | through one step of the frames | through all steps after it |
# | the encoder | can process all frames at once | one frame after another |
# | training and test | differ: exposure bias | are alike |
#
# ## 4.11 In a terminal
#
# ```
# labkit demo                                   simulate, train, evaluate: minutes on two cores
# labkit train course --data.root data/processed_data --out runs/cyclical
# labkit train course --data.root data/processed_data --out runs/monotonic --kl.schedule monotonic
# labkit train course --out runs/cyclical --resume
# labkit evaluate runs/cyclical
# labkit compare runs/cyclical runs/monotonic
# ```
#
# `course` has the settings of the sample code: 300 epochs of 600 updates with a large network. It
# needs a GPU. To compare two schedules, change only the schedule.
#
# ## Summary
#
# 1. The loss is a mean over pixels plus $\beta$ times a sum over latents; $\beta$ stands for an
#    observation noise.
# 2. One update: forward, objective, backward, clip, step, moving average.
# 3. Both schedules are functions of the epoch; the ratio never falls below its bound.
# 4. A collapsed posterior has a KL near 0, no active unit and no posterior gain.
# 5. Teacher forcing helps the first steps. Later the errors grow: exposure bias.
#
# ## What can go wrong
#
# - A $\beta$ that is copied from code with other reductions. See 4.2.
# - Cross entropy as "mse". See 4.3.
# - A forgotten `zero_grad`. See 4.4.
# - A teacher-forcing ratio below its bound. See 4.6.
# - A collapsed posterior that nobody notices, because the PSNR is good. See 4.8 and 4.9.
#
# ## More exercises
#
# 4. In 4.8, let $\beta$ be $3 \cdot 10^{-6}$. Is $z$ used? At which $\beta$ does it collapse?
# 5. In 4.8, start with `posterior_log_variance_start=0`. How many updates does $z$ need now?
# 6. Write the loss so that the first 2 nats of KL cost nothing (free bits, `kl.free_bits`).
#
# ## Links
#
# - S. Bowman et al., *Generating Sentences from a Continuous Space*, 2016:
#   <https://arxiv.org/abs/1511.06349>
# - H. Fu et al., *Cyclical Annealing Schedule: A Simple Approach to Mitigating KL Vanishing*, 2019:
#   <https://arxiv.org/abs/1903.10145>
# - S. Bengio et al., *Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks*,
#   2015: <https://arxiv.org/abs/1506.03099>
# - O. Rybkin, K. Daniilidis, S. Levine, *Simple and Effective VAE Training with Calibrated
#   Decoders*, 2021: <https://arxiv.org/abs/2006.13202>
# - Y. Burda, R. Grosse, R. Salakhutdinov, *Importance Weighted Autoencoders*, 2016:
#   <https://arxiv.org/abs/1509.00519>
# - In the package: `labkit/training/schedules.py`, `labkit/training/objective.py`,
#   `labkit/training/loss_step.py`, `labkit/reference/training.py`, `docs/training.md`.
#
# Next: [05_results](05_results.ipynb), what a trained model predicts, and how it is measured.
