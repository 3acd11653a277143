# %% [markdown]
# # 5 · Results: what a trained model predicts, and how it is measured
#
# [04_training](04_training.ipynb) trained a model. This page measures one: a run of `labkit demo`,
# stored beside the notebooks in `demo_run/`. The model has never seen the clips that it predicts
# here.
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
# The PSNR of one model differs by several dB between protocols. A protocol says how many frames are
# given and predicted, how many samples are drawn, and how the PSNR is averaged. So it is stored
# with every score.

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
# The square brackets below contain the 95 % bootstrap confidence interval over clips.

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
# position that the robot *measured* at the frame before. A robot that plans ahead does not know it
# yet. The coursework gives this position to the model, so the score above uses it. Without it, the
# later positions are added up from the actions, from the last context frame on. The same model then
# reaches:

# %%
measured, added = (stored.mean("psnr", name) for name in ("prediction", "integrated_positions"))
cost = stored.resamples.mean(
    (stored.psnr["prediction"] - stored.psnr["integrated_positions"]).mean(axis=1)
)
for name, mean in (("measured", measured), ("added up", added), ("difference", cost)):
    print(f"{name:<11} {mean.value:4.1f} dB [{mean.low:.1f}, {mean.high:.1f}]")
assert cost.low > 0
assert added.value > stored.mean("psnr", "repeat_last").value

# %% [markdown]
# Report both. The function is `labkit.evaluation.positions.integrated`. You write it yourself in
# exercise 1 of [06_drive_the_arm](06_drive_the_arm.ipynb).
#
# ## 5.2 PSNR as code
#
# $$\mathrm{PSNR} = -10 \log_{10} \text{MSE} \quad \text{for pixels in } [0, 1]$$
#
# The protocol `frame` takes the MSE of a frame over all pixels and channels. The protocol `course`
# takes the PSNR of each channel, and then the mean of the three.
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
# Here are two mistakes. The first function computes the PSNR of each batch, but returns only the
# last one. The second function has no limit: one pair of equal frames makes the mean infinite.


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
# `labkit evaluate RUN --protocol course` scores as the coursework does. The stored evaluation has
# this PSNR too. The grades are for the course's test clips. Our clips are simulated, so this run
# has no grade. We only look up what its number would mean.

# %%
from labkit.evaluation.protocol import GRADES, grade

for bound, share in GRADES:
    print(f"at least {bound:.0f} dB: {share} %")
of_channels = stored.scores["channel_psnr"]["prediction"].mean()
print(f"this run: {of_channels:.2f} dB; on the course's clips this would be {grade(of_channels)} %")
assert (grade(25.0), grade(24.99), grade(19.9)) == (100, 90, 0)

# %% [markdown]
# ## 5.5 New clips, chosen by a rule
#
# We simulate eight clips of the test split. A report must not show only the clips that look good.
# So the choice follows a rule: the best, the median and the worst clip by PSNR.

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
Image(png_bytes(filmstrip(rows, n_past=n_past, steps=(1, 2, 4, 6, 8, 11))))

# %% [markdown]
# In all three the arm goes where it should. Objects that the arm has passed become blurred or stay
# where they were. The worst clip as a GIF:


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
# An object is pushed, and nobody knows how far it slides. As a model of this, a bar is at one of
# five places with equal probability. We compare three predictions: the bar at the middle place, no
# bar, and the mean of the five pictures.

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
# The mean has the lowest error. It is a faint, wide bar, which is in none of the five pictures. A
# sharp bar at a wrong place is worse than no bar. So a model that is trained by a squared error
# blurs what it does not know. The same holds for a real object that is moved by some pixels, sharp
# or blurred:

# %%
from torch.nn.functional import avg_pool2d

shifts = range(9)
scene = frames[chosen["median"], -1:]  # (1, 3, 64, 64)
soft = avg_pool2d(scene, 5, stride=1, padding=2, count_include_pad=False)
error_of = {"sharp": [], "blurred": []}
for shift in shifts:
    moved = scene.roll(shift, dims=-1)
    for name, guess in (("sharp", scene), ("blurred", soft)):
        error_of[name].append((guess - moved).square().mean().item())

plt.figure(figsize=(6, 2.6))
for (name, errors), marker in zip(error_of.items(), "os", strict=True):
    plt.plot(shifts, errors, marker + "-", label=name)
plt.xlabel("shift of the truth, in pixels")
plt.ylabel("MSE")
plt.legend()
plt.show()

# %% [markdown]
# The sharp picture is better only if it is nearly at the right place.

# %%
better = [shift for shift in shifts if error_of["blurred"][shift] < error_of["sharp"][shift]]
print(f"the blurred picture has the lower error at shifts of {better} pixels")
assert error_of["sharp"][0] == 0
assert better == list(range(better[0], 9))

# %% [markdown]
# ## 5.8 Mistake: a reconstruction reported as a prediction
#
# `prove` changes future frames. A prediction must then stay the same. The certificate has three
# maps. They show on which frames, on which conditions and on which earlier predictions each
# predicted frame depends.

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
# Each column is a predicted frame, and each row is an input. A filled field means that the input
# changes the prediction. In the first map only the two context frames do so. In the second map the
# conditions up to $c_{t-1}$ do. In the third map each prediction changes all later predictions,
# because it is fed back.
#
# Now we do the same with a rollout whose $z$ comes from the posterior. It uses the small model of
# page 3:

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
# ## 5.9 Compare runs
#
# We compare three runs of page 4, with the teacher-forcing ratio at 1, decayed, and at 0. All are
# evaluated on the same 64 test clips, so the difference is taken clip by clip. `labkit compare`
# does the same in a terminal.

# %%
from labkit.experiments.comparison import compared
from labkit.experiments.evaluated_run import read_evaluated_run

folders = {"ratio 1": "actions_always", "decayed": "actions_cyclical", "ratio 0": "actions_never"}
comparison = compared(
    {name: [read_evaluated_run(Path("small_runs") / f)] for name, f in folders.items()}
)
for name in folders:
    mean = comparison.mean(name).interval
    print(f"{name:<8} PSNR {mean.value:.1f} dB [{mean.low:.1f}, {mean.high:.1f}]")

# %%
for pair in comparison.pairs:
    difference, p = pair.differences["psnr"].interval, pair.adjusted["psnr"]
    interval = f"[{difference.low:+.2f}, {difference.high:+.2f}]"
    print(f"{pair.first} minus {pair.second}: {difference.value:+.2f} dB {interval}, p = {p:.1f}")
    assert difference.low < 0 < difference.high
    assert not pair.is_significant()

# %% [markdown]
# The p values are corrected for the number of pairs (Holm's method). Every interval contains 0, so
# on these clips no difference is significant. The intervals are over clips. They say nothing about
# other *trainings*: for that, several seeds are needed (`labkit experiment`).
#
# ## 5.10 Check and hand in
#
# Save the notebooks. Then, in a terminal in their folder:
#
# ```
# labkit check                                       says which exercises pass
# labkit evaluate runs/course --protocol course      the figures by the coursework's protocol
# labkit prove runs/course                           the certificate of 5.8
# labkit submit --student-id ID --name NAME --run runs/course
# ```
#
# The last command makes one zip file of notebooks, run and report, and lists what is missing. The
# end of [06_drive_the_arm](06_drive_the_arm.ipynb) has all steps in order.
#
# ## Summary
#
# 1. A PSNR needs its protocol: context, horizon, samples, condition, averaging, clips.
# 2. All batches count, each frame once; equal frames count as 100 dB.
# 3. Measured positions at predicted steps help; report the score without them too.
# 4. Under a squared error the best guess is a mean, which is a blur.
# 5. A prediction reads only the context and earlier conditions; `prove` shows it.
#
# ## What can go wrong
#
# - The PSNR of the last batch. See 5.3.
# - A reconstruction reported as a prediction. See 5.8.
# - Clips that were chosen because they look good. See 5.5.
# - The best of many samples is reported as one sample. It was chosen by looking at the truth.
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
