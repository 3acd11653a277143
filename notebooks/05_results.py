# %% [markdown]
# # 5 · Results: what a trained model predicts, and how it is measured
#
# [04_training](04_training.ipynb) trained a model. This page measures one: a run of `labkit demo`,
# shipped with the notebooks in `demo_run/`. It has never seen the clips it predicts here.
#
# **After this page you can**
#
# 1. state a protocol, and say why a PSNR without one means nothing;
# 2. write the two PSNR of this field, and average them over a test set without a mistake;
# 3. choose clips to show by a rule, and say what PSNR does not see;
# 4. explain why a blur has the highest PSNR where the future is not known;
# 5. prove that a prediction reads no future frame, and read the proof's three maps.
#
# **You need** pages [3](03_model.ipynb) and [4](04_training.ipynb).
#
# **Time**: about 45 minutes to read and to solve the exercises; about two minutes to run.

# %%
import labkit
from labkit.course.checks import CheckFailed, check_psnr, check_test_psnr

labkit.lab_setup()

# %% [markdown]
# ## 5.1 The protocol comes first
#
# Published PSNR of one model differ by several dB with the protocol: how many frames are given and
# predicted, how many samples, how the PSNR is averaged. So the protocol is stored with every score.

# %%
import textwrap
from pathlib import Path

from labkit.evaluation import Evaluation
from labkit.training import load_model

run = Path("demo_run")
model, config = load_model(run)
stored = Evaluation.load(run / "evaluation.json")
print(textwrap.fill(stored.protocol, 90))

# %% [markdown]
# In square brackets: the 95 % bootstrap confidence interval over clips.

# %%
for name in ("prediction", "repeat_last"):
    mean, steps = stored.mean("psnr", name), stored.psnr[name].mean(axis=0)
    print(
        f"{name:<12} PSNR {mean.value:.1f} dB [{mean.low:.1f}, {mean.high:.1f}], "
        f"t = 2: {steps[0]:.1f}, t = 11: {steps[-1]:.1f}"
    )
assert stored.mean("psnr").low > stored.mean("psnr", "repeat_last").high

# %% [markdown]
# The baseline repeats the last context frame. The model is better, and the intervals do not
# overlap.
#
# **Disclosed: measured positions.** The condition of a predicted step contains the end-effector
# position that the robot *measured* at the frame before. At test time on a robot this is known only
# after the step. The coursework gives it, so the score above uses it. With positions that are added
# up from the actions, from the last context frame on, the same model reaches:

# %%
measured, added = (stored.mean("psnr", name) for name in ("prediction", "integrated_positions"))
print(f"measured positions  {measured.value:.1f} dB")
print(f"added up            {added.value:.1f} dB")
print(f"difference          {measured.value - added.value:.1f} dB")
assert measured.value > added.value
assert added.value > stored.mean("psnr", "repeat_last").value

# %% [markdown]
# Report both. The function is `labkit.evaluation.positions.integrated`, and exercise 1 of
# [06_drive_the_arm](06_drive_the_arm.ipynb) is to write it.
#
# ## 5.2 PSNR, written out
#
# $$\mathrm{PSNR} = -10 \log_{10} \text{MSE} \quad \text{for pixels in } [0, 1]$$
#
# The protocol `frame` takes the MSE of a frame over all pixels and channels. The protocol `course`
# takes one PSNR of each channel, and then the mean of the three.
#
# **Exercise 1.** Write both: frames are (B, T, 3, H, W), the result is (B, T). The PSNR of two
# equal frames (or channels) would be infinite; count it as 100 dB.

# %%
import torch


# %% nbgrader={"grade": false, "grade_id": "psnr", "locked": false, "schema_version": 3, "solution": true, "task": false}
def psnr(prediction, truth, averaging):
    """PSNR of each frame in dB, averaging "frame" or "channel"."""
    ### BEGIN SOLUTION
    squared = (prediction.double() - truth.double()) ** 2
    if averaging == "channel":
        error = squared.mean(dim=(-2, -1))
        return (-10 * torch.log10(error)).clamp(max=100).mean(dim=-1)
    return (-10 * torch.log10(squared.mean(dim=(-3, -2, -1)))).clamp(max=100)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-psnr", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check_psnr(psnr)

# %% [markdown]
# **Exercise 2.** Average over a test set: `loader` gives pairs (prediction, truth) of batches. The
# last batch may be smaller. The result is one number: the mean over all frames of all clips.


# %% nbgrader={"grade": false, "grade_id": "test-psnr", "locked": false, "schema_version": 3, "solution": true, "task": false}
def test_psnr(loader, averaging):
    """Mean PSNR over all clips and frames of a loader, in dB."""
    ### BEGIN SOLUTION
    each = [psnr(prediction, truth, averaging) for prediction, truth in loader]
    return torch.cat(each).mean().item()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-test-psnr", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check_test_psnr(test_psnr)

# %% [markdown]
# ## 5.3 Mistake: the last batch only, and equal frames
#
# A loop that computes the PSNR in each batch and returns the value after the loop returns that of
# the last batch. And without a limit one pair of equal frames makes the mean infinite.


# %%
def last_batch_only(loader, averaging):
    for prediction, truth in loader:
        value = psnr(prediction, truth, averaging).mean()
    return value.item()


def without_limit(prediction, truth, averaging):
    axes = (-3, -2, -1) if averaging == "frame" else (-2, -1)
    each = -10 * torch.log10(((prediction - truth) ** 2).mean(dim=axes))
    return each if averaging == "frame" else each.mean(dim=-1)


for check, mistaken in ((check_test_psnr, last_batch_only), (check_psnr, without_limit)):
    try:
        check(mistaken, seed=1)
        raise AssertionError("the check must fail")
    except CheckFailed as failure:
        print("-", failure.hint)

# %% [markdown]
# ## 5.4 `--protocol course`, and what it means for the grade
#
# `labkit evaluate RUN --protocol course` scores as the coursework does. The stored evaluation holds
# this PSNR too. The grades are for the course's test clips; these clips are simulated, so the grade
# below is only what the number would mean.

# %%
from labkit.evaluation.protocol import GRADES, grade

for bound, share in GRADES:
    print(f"at least {bound:.0f} dB: {share} %")
of_channels = stored.scores["channel_psnr"]["prediction"].mean()
print(f"this run: {of_channels:.2f} dB, that would be {grade(of_channels)} %")
assert (grade(25.0), grade(24.99), grade(19.9)) == (100, 90, 0)

# %% [markdown]
# ## 5.5 New clips, chosen by a rule
#
# Eight clips of the test split, simulated here. Which of them are shown decides what a reader
# thinks of a model. So the choice follows a rule: the best, the median and the worst clip by PSNR.

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

# %%
n_past, horizon = config.data.n_past, config.data.n_future
noise = torch.Generator().manual_seed(config.seed)
with torch.inference_mode():
    predicted = model.predict(frames[:, :n_past], condition, horizon, generator=noise)
of_clips = psnr(predicted, frames[:, n_past:], "frame").mean(dim=1)
order = of_clips.argsort(descending=True)
chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
for name, number in chosen.items():
    print(f"{name:<7} clip {number}: {of_clips[number]:.0f} dB")
assert of_clips.mean() > 20

# %%
from IPython.display import Image

from labkit.views import animation, filmstrip, png_bytes, to_uint8

rows = {}
for name, number in chosen.items():
    whole = torch.cat([frames[number, :n_past], predicted[number]])
    rows[f"{name}: truth"] = to_uint8(frames[number], clip=True)
    rows[f"{name}: prediction"] = to_uint8(whole, clip=True)
Image(png_bytes(filmstrip(rows, scale=2, n_past=n_past)))

# %% [markdown]
# The worst clip as a GIF:

# %%
animation({name.removeprefix("worst: "): rows[name] for name in list(rows)[-2:]}, n_past=n_past)

# %% [markdown]
# ## 5.6 What PSNR does not see
#
# Nearly all pixels are background. The simulator knows which pixels are which, so the error can be
# divided by region: the arm, the objects that move, and the rest.

# %%
from labkit.evaluation.regions import region_errors

truth, labels = frames[:, n_past:], batch.labels[:, n_past:]
by_region = region_errors(predicted, truth, labels)
last = frames[:, n_past - 1 : n_past].expand_as(truth)
repeated = region_errors(last, truth, labels)
temporary.cleanup()
for name, errors in by_region.items():
    print(
        f"{name:<7} prediction {errors.psnr():.0f} dB, repeat last {repeated[name].psnr():.0f} dB"
    )
assert by_region["arm"].psnr() > repeated["arm"].psnr()
assert by_region["moved"].psnr() < by_region["rest"].psnr()

# %% [markdown]
# ## 5.7 Why a blur is optimal
#
# An object is pushed, and how far it slides is not known. A bar is at one of five places with equal
# probability. Three predictions: the bar at the middle place, no bar, and the mean of the five
# pictures.

# %%
import matplotlib.pyplot as plt

places = torch.zeros(5, 64)
for number in range(5):
    places[number, 20 + 5 * number : 25 + 5 * number] = 1.0
guesses = {"one place": places[2], "no bar": torch.zeros(64), "the mean": places.mean(dim=0)}
mse = {name: (guess - places).square().mean().item() for name, guess in guesses.items()}

plt.figure(figsize=(6, 2.6))
for name, guess in guesses.items():
    plt.plot(guess, label=f"{name}: MSE {mse[name]:.3f}")
plt.xlabel("pixel")
plt.ylabel("brightness")
plt.legend()
plt.show()
assert min(mse, key=mse.get) == "the mean"
assert mse["one place"] > mse["no bar"]

# %% [markdown]
# The mean has the lowest error: a faint, wide bar that no future contains. A sharp bar at the wrong
# place is worse than no bar. A model that is trained by a squared error therefore blurs what it
# does not know.
#
# ## 5.8 Mistake: a reconstruction reported as a prediction
#
# `prove` changes future frames, which must not change a prediction. Its certificate has three maps:
# which frames, which conditions and which predictions each predicted frame depends on.

# %%
from labkit.data.dataset import Batch
from labkit.evaluation.leakage import predictor_of, prove
from labkit.reporting.certificate import certificate_png

two = Batch(frames[:2], condition[:2])
honest = prove(predictor_of(model), two, n_past, seeds=5, progress=False)
print(f"findings: {len(honest.findings)}")
assert not honest.findings
Image(certificate_png(honest))

# %% [markdown]
# Each column is a predicted frame. Frames: only the two context rows are filled. Conditions: the
# triangle up to the frame before. Now a rollout whose $z$ comes from the posterior, on the small
# model of page 3:

# %%
from labkit.course.small_model import small_course_model
from labkit.model import VideoCVAE

small = VideoCVAE(small_course_model(), condition_size=7).eval()


def reconstruction(frames, condition, n_past):
    """Reported as a prediction, but z comes from the posterior of the target."""
    return small.reconstruct(frames, condition, n_past)


dishonest = prove(reconstruction, two, n_past, seeds=5, progress=False)
for found in dishonest.findings:
    print(textwrap.fill(f"{found.leak}: {found.says}. {found.hint}", 90))
assert dishonest.findings

# %% [markdown]
# ## 5.9 Compare two runs
#
# The runs of page 4 with teacher forcing at 1 and at 0, on the same 64 test clips. The difference
# is taken clip by clip.

# %%
always, never = (
    Evaluation.load(Path("small_runs") / name / "evaluation.json")
    for name in ("actions_always", "actions_never")
)
assert (always.clip_ids == never.clip_ids).all()
difference = (never.psnr["prior_mean"] - always.psnr["prior_mean"]).mean(axis=1)
apart = always.resamples.mean(difference)
print(f"ratio 0 minus ratio 1: {apart.value:+.2f} [{apart.low:+.2f}, {apart.high:+.2f}] dB")

# %% [markdown]
# If the interval contains 0, these clips do not decide between the two. And it says nothing of
# other *trainings*: for that, several seeds are needed (`labkit experiment`).
#
# ## Summary
#
# 1. A PSNR needs its protocol: context, horizon, samples, condition, averaging, clips.
# 2. All batches count, each frame once; equal frames count as 100 dB.
# 3. Measured positions at predicted steps help; report the score without them too.
# 4. Under a squared error the best guess is a mean, which is a blur.
# 5. A prediction reads the context and earlier conditions alone; a proof shows it.
#
# ## What can go wrong
#
# - The PSNR of the last batch. See 5.3.
# - A reconstruction reported as a prediction. See 5.8.
# - Clips that were chosen because they look good. See 5.5.
# - The best of many samples: then the truth has chosen the sample.
# - $c_t$ given where $c_{t-1}$ belongs: the model knows where the arm has arrived.
#
# ## More exercises
#
# 3. Make a predictor that gives $c_t$ in place of $c_{t-1}$. What does `prove` say?
# 4. In 5.7, let the five places overlap. When does one place beat no bar?
#
# ## Links
#
# - E. Denton, R. Fergus, *Stochastic Video Generation with a Learned Prior*, 2018:
#   <https://arxiv.org/abs/1802.07687>
# - In the package: `labkit/evaluation/protocol.py`, `labkit/evaluation/metrics.py`,
#   `labkit/evaluation/positions.py`, `labkit/evaluation/leakage/proof.py`, `docs/evaluation.md`.
#
# Next: [06_drive_the_arm](06_drive_the_arm.ipynb), what happens if you choose the actions.
