# %% [markdown]
# # 4 · Training: the objective, its two schedules, and a run
#
# [03_model](03_model.ipynb) turned a batch into a rollout: predictions, and a posterior $q$ and a
# prior $p$ for every step. Here the rollout becomes one number to be made small, the ELBO of
# [01_elbo_derivation](01_elbo_derivation.ipynb), and the number becomes weights.

# %%
import labkit

labkit.lab_setup()

# %% [markdown]
# ## 4.1 The objective and its reductions
#
# $$\mathcal{L} = \underbrace{\frac{1}{D}\,\lVert x_t - \hat x_t \rVert^2}_{\text{mean over the }
# D = 12288 \text{ values of a frame}} \; + \; \beta \underbrace{\sum_{i} \mathrm{KL}\left(
# q_\phi(z_{t,i} \mid x_{1:t}, c) \,\|\, p(z_{t,i})\right)}_{\text{sum over latent dimensions}}$$
#
# averaged over time steps and clips. A $\beta$ means nothing without these reductions. A sum where
# another code has a mean is a factor of 12,288 or of the latent's size, and the same training is
# then written with another number:

# %%
D, latent_size, beta = 3 * 64 * 64, 64, 1e-4

print(f"MSE mean over pixels, KL sum over latents (this lab)  beta = {beta:g}")
print(f"MSE sum over pixels,  KL sum over latents             beta = {beta * D:g}")
print(f"MSE mean over pixels, KL mean over latents            beta = {beta * latent_size:g}")

# %% [markdown]
# What does a $\beta$ ask for? To keep one nat in $z_t$ must pay: it has to lower the MSE by
# $\beta$. At 24.5 dB the whole MSE is 0.0035. And by 01, section 1.9, $\beta$ is also a claim
# about the noise of a pixel, $\sigma = \sqrt{\beta D / 2}$, where pixels lie in [0, 1].

# %%
import math

mse = 10 ** (-24.5 / 10)
print("beta     sigma   one nat must save, of the MSE at 24.5 dB")
for beta in (1.0, 1e-4, 1e-5, 1e-6):
    print(f"{beta:<7g}{math.sqrt(beta * D / 2):7.2f}   {100 * beta / mse:12,.2f} %")

# %% [markdown]
# At $\beta = 1$ a nat would have to save many times the error there is. No nat ever does, so the
# posterior becomes the prior: it *collapses*, $z$ is noise, and the conditions alone carry the
# prediction. This is the maximum that the course's schedules rise to.
#
# Nor need $\sigma$ be guessed. A Gaussian likelihood of $x_t$ around $\hat x_t$ is highest where
# $\sigma^2$ is the mean squared error itself. Put in, it leaves
#
# $$\tfrac{1}{2} \log \text{MSE} + \mathrm{KL} / D$$
#
# up to a constant: with a weight of 1 this *is* the negative ELBO over $D$, and the $\beta$ it
# amounts to falls as the predictions get better (sigma-VAE, Rybkin et al. 2021). The `demo` and
# `smoke` presets use it (`model.observation="optimal"`), so the
# loss below is the logarithm of an error, and negative.

# %% [markdown]
# ## 4.2 KL annealing
#
# So the weight starts at 0, where $z$ is free to be useful, and rises. **Monotonic** annealing
# (Bowman et al. 2016) rises once; **cyclical** annealing (Fu et al. 2019) starts anew a few times,
# each time from a $z$ that already means something. A cycle rises for 1/ratio of its length and
# then rests. Both are functions of the epoch and of nothing else. The course's numbers are 300
# epochs, 3 cycles, ratio 2:

# %%
from labkit.config import KLConfig, TeacherForcingConfig
from labkit.training import kl_weight, teacher_forcing_ratio

monotonic = KLConfig(schedule="monotonic", cycles=3, ratio=2.0)
cyclical = KLConfig(schedule="cyclical", cycles=3, ratio=2.0)
forcing = TeacherForcingConfig(start=1.0, decay_start=0, decay_step=0.01, lower_bound=0.0)

print("epoch  monotonic  cyclical  teacher forcing")
for epoch in (0, 25, 50, 75, 99, 100, 125, 150, 250, 299):
    weights = kl_weight(epoch, 300, monotonic), kl_weight(epoch, 300, cyclical)
    ratio = teacher_forcing_ratio(epoch, forcing)
    print(f"{epoch:5}{weights[0]:11.3f}{weights[1]:10.3f}{ratio:17.2f}")

# %% [markdown]
# By hand: a monotonic ramp takes 300 / 2 = 150 epochs, so epoch 25 is a sixth of the way up. A
# cycle takes 100 epochs and its ramp 50, so epoch 25 is half way up, epoch 99 still at the top and
# epoch 100 at 0 again.

# %%
import numpy as np

from labkit.views import schedules

panels = {}
for title, kl in (("monotonic", monotonic), ("cyclical, 3 cycles", cyclical)):
    weights = [kl_weight(epoch, 300, kl) for epoch in range(300)]
    ratios = [teacher_forcing_ratio(epoch, forcing) for epoch in range(300)]
    panels[title] = {"kl_weight": np.array(weights), "teacher_forcing_ratio": np.array(ratios)}
schedules(panels)

# %% [markdown]
# ## 4.3 Teacher forcing
#
# The **teacher-forcing ratio** is the probability that a batch is fed true frames after the
# context. At 1 every step is an easy one, learning is quick, and all steps can be computed at
# once. But the test has no true frames: a model that never met its own mistakes lets them grow.
# So the ratio falls, here by 0.01 an epoch, and stops at its bound (scheduled sampling, Bengio
# et al. 2015). Where $z$ comes from does not change with it: see 03, section 3.4.

# %% [markdown]
# ## 4.4 A run
#
# All of this comes together in a `Config`. The `smoke` preset is made for seconds, not for results.
# Here it gets eight simulated clips, and six short epochs.

# %%
import os
import tempfile
from pathlib import Path

from labkit.data.simulator import simulate_pack

notebooks = Path.cwd()
temporary = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
os.chdir(temporary.name)  # what this page writes goes with it
pack = simulate_pack("clips", 1, {"train": 8, "validate": 4}, progress=False)
print(pack.manifest["source"])

# %% [markdown]
# A `Config` never changes; `dataclasses.replace` makes another one.

# %%
import dataclasses

from labkit.presets import preset

smoke = preset("smoke")
config = dataclasses.replace(
    smoke,
    data=dataclasses.replace(smoke.data, root="clips"),
    training=dataclasses.replace(smoke.training, epochs=6, updates_per_epoch=4),
)

# %% [markdown]
# `train` fits the model and leaves everything about it in one folder.

# %%
from labkit.training import train

rows = train(config, "run", progress=False)

print("epoch  loss   validation PSNR  KL weight  teacher forcing")
for row in rows:
    print(
        f"{row.epoch:5}  {row.loss:.2f}  {row.validation_psnr:12.1f} dB"
        f"{row.kl_weight:11.0e}{row.teacher_forcing_ratio:17.2f}"
    )
print("\nrun:", *sorted(file.name for file in Path("run").iterdir()))

# %% [markdown]
# `config.json` says what was asked for, `history.csv` what happened in each epoch,
# `model.safetensors` holds the weights that predicted the validation clips best, and
# `checkpoint.pt` all that it takes to go on. PSNR is taken free-running, with $z$ from the prior,
# as in the test: the loss of a teacher-forced epoch says little about that.

# %%
from labkit.training import read_history
from labkit.views import training_curves

training_curves(read_history("run"))

# %% [markdown]
# This figure is the one the course's report asks for. The loss need not fall while the PSNR
# rises: the ratio falls meanwhile, so the task becomes harder.

# %% [markdown]
# ## 4.5 Stopped, and taken up again
#
# A run that took two days must not be lost to a second `train` into the same folder:

# %%
from labkit.errors import RunError

try:
    train(config, "run", progress=False)
except RunError as error:
    print(error)

# %% [markdown]
# Nor to a power cut. Order and noise are functions of the seed and the update, and nothing is
# remembered between updates but what the checkpoint holds: a run that is stopped, here by a
# time limit that is over at its first update, goes on as if it had never stopped.

# %%
import torch

from labkit.training.checkpoint import load_checkpoint

train(config, "stopped", minutes=1e-9, progress=False)
print("updates done:", load_checkpoint(Path("stopped"))["update"])
train(config, "stopped", resume=True, progress=False)

whole, resumed = (load_checkpoint(Path(name))["module"] for name in ("run", "stopped"))
print("weights equal:", all(torch.equal(whole[name], resumed[name]) for name in whole))

# %% [markdown]
# ## 4.6 When the loss is no number
#
# A learning rate far too high, nothing that limits the gradient, and a large KL weight from the
# start: the variance $\exp(\log \sigma^2)$ overflows. Training stops at once, and says what to
# try. What the last whole epoch saved stays.

# %%
from labkit.errors import TrainingError

kl = KLConfig(schedule="constant", max_weight=1000.0)
training = preset("course").training  # whose gradient has no limit
training = dataclasses.replace(training, batch_size=4, learning_rate=10.0)
try:
    train(dataclasses.replace(config, kl=kl, training=training), "reckless", progress=False)
except TrainingError as error:
    print(error.hint)

os.chdir(notebooks)
temporary.cleanup()

# %% [markdown]
# ## 4.7 The real thing
#
# In a terminal:
#
# ```
# labkit demo                                  simulate, train, evaluate: minutes on two cores
# labkit train course --data.root data/processed_data --out runs/cyclical
# labkit train course --data.root data/processed_data --out runs/monotonic --kl.schedule monotonic
# labkit train course --out runs/cyclical --resume
# labkit evaluate runs/cyclical
# ```
#
# `course` is the sample code's setting, 300 epochs of 600 updates with a network more than ten
# times the demo's: a matter of a GPU, and of days without one. Every setting is an option
# (`labkit train course --help`). To compare two schedules, change the schedule alone.
#
# Next: [05_results](05_results.ipynb), what a trained model predicts, and what its figures mean.
