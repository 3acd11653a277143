# %% [markdown]
# # 5 · Results: what a trained model predicts
#
# [04_training](04_training.ipynb) ended with commands. This page looks at what one of them
# leaves: a run of `labkit demo`, shipped with the notebooks in `demo_run/`. It predicts clips
# that it has never seen, scores them, shows them, and says what the figures do not.

# %%
import labkit

labkit.lab_setup()

# %% [markdown]
# ## 5.1 The run and its figures
#
# The command that made it takes minutes on two cores, and makes all of its data:
#
# ```
# labkit demo
# ```
#
# The model was then judged on all test clips, beside the simplest rival: to repeat the last context
# frame. In square brackets is an interval that holds 95 % of the means of as many clips drawn anew
# (bootstrap); in round ones are the first and the last of the predicted frames. A figure without
# its protocol is no figure, so the protocol is stored with it.

# %%
import json
import textwrap
from pathlib import Path

from labkit.training import load_model

run = Path("demo_run")
model, config = load_model(run)
stored = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))

for name in ("prediction", "repeat_last"):
    figures, ssim = stored["psnr"][name], stored["ssim"][name]["mean"]
    first, *_, last = figures["per_step"]
    low, high = figures["interval"]
    steps = f"({first:.1f} ... {last:.1f})"
    print(
        f"{name:<12} PSNR {figures['mean']:.1f} dB [{low:.1f}, {high:.1f}] {steps}, SSIM {ssim:.2f}"
    )
print("\n" + textwrap.fill(stored["protocol"], 90))

# %% [markdown]
# Its curves: the loss may level off or rise while the teacher-forcing ratio falls, since the task
# becomes harder; the PSNR of free-running predictions is what counts.

# %%
from labkit.training import read_history
from labkit.views import training_curves

history = read_history(run)
training_curves(history)

# %% [markdown]
# ## 5.2 New clips, predicted
#
# Eight clips of the test split, simulated on the spot. Training never came near them: the splits
# take clips of different numbers.

# %%
import dataclasses
import tempfile

from labkit.data.dataset import ClipDataset
from labkit.data.simulator import simulate_pack

temporary = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
root = Path(temporary.name) / "simulated"
simulate_pack(root, config.seed, {"test": 8}, progress=False)
here = dataclasses.replace(config.data, root=str(root))
dataset = ClipDataset.from_config(here, "test", windows="first")

batch = dataset.batch(range(len(dataset))).to("cpu")
frames, condition = batch.frames, batch.condition

# %% [markdown]
# One call predicts. It is given the two context frames, the conditions, and how many frames to
# make; each is made from the one predicted before it. (In the course's words: teacher forcing 0.)

# %%
import torch

from labkit.evaluation import psnr

n_past, horizon = config.data.n_past, config.data.n_future
noise = torch.Generator().manual_seed(config.seed)
with torch.inference_mode():
    predicted = model.predict(frames[:, :n_past], condition, horizon, generator=noise)

scores = psnr(predicted, frames[:, n_past:]).mean(dim=0)
last = frames[:, n_past - 1 : n_past].expand_as(predicted)
repeated = psnr(last, frames[:, n_past:]).mean(dim=0)
print("  t  prediction  repeat last frame   (PSNR, dB)")
for step in range(horizon):
    print(f"{n_past + step:3}{scores[step]:12.1f}{repeated[step]:19.1f}")

# %% [markdown]
# Eight clips are few; the stored figures above are the ones to quote. The lab's own protocol,
# `evaluate`, does the same and adds the mean of the prior, posterior reconstructions and SSIM:

# %%
from labkit.evaluation import evaluate
from labkit.views import psnr_over_time

evaluation = evaluate(model, dataset, seed=config.seed, keep=3, progress=False)
temporary.cleanup()
psnr_over_time(evaluation.psnr, n_past, evaluation.protocol)

# %% [markdown]
# ## 5.3 Every time step
#
# The truth above, the prediction under it, and the posterior's reconstruction, which has seen the
# frames it makes and is no prediction. This is the first clip, not a chosen one.

# %%
from IPython.display import Image

from labkit.views import filmstrip, png_bytes


def clip(number):
    """Truth, prediction and posterior of one of the clips."""
    return {name: clips[number] for name, clips in evaluation.examples.items()}


Image(png_bytes(filmstrip(clip(0), scale=1, n_past=n_past)))

# %% [markdown]
# Truth and prediction as a GIF, which is what the course's report wants:

# %%
from labkit.views import gif_bytes

moving = {name: clip(0)[name] for name in ("truth", "prediction")}
Image(gif_bytes(moving, scale=2, n_past=n_past), format="gif")

# %% [markdown]
# And under a slider, once the page is run (until then there is a strip in its place). Drag it, or
# press play; with the arrow keys it moves frame by frame. Look at the objects that are pushed, and
# at the place where the arm was at first.

# %%
from labkit.views import scrub

scrub(clip(1), n_past=n_past, scale=3)

# %% [markdown]
# ## 5.4 What PSNR does not see
#
# A frame's PSNR counts all of its pixels alike, and nearly all of them are arm and background.
# The simulator knows which pixels are which, so the error can be divided.

# %%
from labkit.evaluation.regions import region_errors

truth, labels = frames[:, n_past:], batch.labels[:, n_past:]
made = region_errors(predicted, truth, labels)
kept = region_errors(frames[:, n_past - 1 : n_past].expand_as(truth), truth, labels)
area, error = (sum(getattr(e, part).sum() for e in made.values()) for part in ("count", "squared"))
print("        of the pixels   of the squared error   prediction   repeat last frame")
for name, e in made.items():
    shares = 100 * e.count.sum() / area, 100 * e.squared.sum() / error
    print(f"{name:<8}{shares[0]:11.0f} %{shares[1]:20.0f} %", end="")
    print(f"{e.psnr():14.1f} dB{kept[name].psnr():17.1f} dB")

# %% [markdown]
# The objects that move are a few pixels in a hundred and a small part of the error, and yet they
# are what the task is about: a model may lose them altogether and pay hardly anything. This one
# does: on their pixels it is hardly better than a frame that stays as it is. Where the future
# is not known, the best guess under a squared error is the *mean* of the futures, which is a
# **blur**. Look for it above: at pushed things, which fade rather than move, and at the place
# that the arm hid at first. (The arm stays an arm: where it is is known, and its looks are carried
# along, see 03, section 3.7.)

# %% [markdown]
# ## 5.5 Does the latent say anything?
#
# Three signs. The KL of the last epoch: with nothing to tell, the posterior is the prior, and the
# KL is 0. Two predictions of one clip with other noise: if $z$ means something, they differ. And
# the posterior's reconstruction, whose $z$ has seen the target: it should beat the prediction.

# %%
with torch.inference_mode():
    drawn, other = (
        model.predict(
            frames[:, :n_past], condition, horizon, generator=torch.Generator().manual_seed(seed)
        )
        for seed in (1, 2)
    )
difference = (drawn - other).abs().mean()
print("KL below 0.1 nats a frame:                 ", bool(history["kl"][-1] < 0.1))
print("two samples differ by a tenth of a grey:   ", bool(difference > 0.1 / 255))
gain = stored["psnr"]["posterior"]["mean"] - stored["psnr"]["prediction"]["mean"]
print("posterior better than prediction by 0.1 dB:", gain > 0.1)

# %% [markdown]
# *True*, *False*, *False* would be a **collapsed posterior**: $z$ is ignored, every sample is the
# same film, and it is the *actions* that carry the prediction. That is common on this task (04,
# section 4.1, says why), and PSNR does not notice. This model comes to the same by another way: its
# KL is not 0, and samples differ a little, but the posterior is nearly the same for every clip
# (06 looks at it), so it tells nothing of the target. Under the ELBO a nat pays for itself when it
# lowers $\frac{D}{2} \log \text{MSE}$ by 1, which at $D = 12288$ is 0.0007 dB: some nats are no
# sign of life.
#
# A model with a living $z$ has a posterior that reconstructs clearly better than it predicts, and
# its samples differ where the future is open: in how far a thing of unknown weight slides.

# %% [markdown]
# ## 5.6 Is a future frame read?
#
# A claim that can be proved. `prove` replaces the future frames by noise and by NaN, which must
# change nothing, takes the gradient of the predictions with respect to them, which must be zero,
# and disturbs frames, conditions and predictions one by one. It takes any function of (frames,
# condition, n_past), so also the one from your own code; `labkit prove RUN` writes the certificate
# and its picture into the run's folder.

# %%
from labkit.data.dataset import Batch
from labkit.evaluation.leakage import predictor_of, prove


def certify(predict):
    """Puts a predictor to the test on two clips, and tells the verdicts."""
    two = Batch(batch.frames[:2], batch.condition[:2])
    certificate = prove(predict, two, n_past, progress=False)
    for trial in certificate.trials:
        print(f"{trial.name:<12} {trial.verdict}")
    for found in certificate.findings:
        print(textwrap.fill(f"LEAK: {found.says}. Mend: {found.hint}", 90))


certify(predictor_of(model))

# %% [markdown]
# And one that cheats, as several public solutions do: its $z$ comes from the posterior of the
# target.


# %%
def cheat(frames, condition, n_past):
    """Looks like a prediction, and is a reconstruction."""
    return model.reconstruct(frames, condition, n_past)


certify(cheat)

# %% [markdown]
# ## 5.7 Reading other people's figures
#
# Ask these before you compare a number with yours:
#
# - **Is a future frame read?** A loop that feeds true frames after the context, or takes $z$ from
#   the posterior of the target, is a reconstruction. Some public solutions of this task do
#   this, and their figures do not count, however high.
# - **Which condition?** Fed $c_t$ instead of $c_{t-1}$, a model knows where the arm has arrived.
# - **How many samples?** "Best of 100" means that the truth chose the sample.
# - **How many frames in and out?** The tenth frame is harder than the first; a mean over 28 frames
#   is another quantity than a mean over 10.
# - **How is it averaged?** A mean of each frame's PSNR reads higher than the PSNR of the mean
#   error, and a mean over the last batch is none over the test set.

# %% [markdown]
# ## 5.8 For your own report
#
# The course asks for a GIF of a test result, the prediction at each time step, curves of KL and
# PSNR with the KL weight and the teacher-forcing ratio, and a discussion. All of the pictures are
# on this page and in a run's `report.html`; `labkit evaluate RUN` makes them. The discussion is
# yours. Questions that it might answer:
#
# - Monotonic or cyclical: what happens to KL and PSNR at each restart, and what is left at the end?
# - Where in training does the falling teacher-forcing ratio show?
# - Which step of the ten costs most, and what does one see there?
# - Is your $z$ alive? What is your evidence?
# - What would you lose without the actions, and how would you find out?
#
# Next: train your own, change one thing at a time, and put your run in the place of this one.
