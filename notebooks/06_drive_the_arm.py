# %% [markdown]
# # 6 · Drive the arm
#
# [05_results](05_results.ipynb) measured how well a model predicts what really happened. A model
# that gets the actions can also say what *would* happen after other actions. Here you choose the
# actions, and the model shows the next frames.
#
# **After this page you can**
#
# 1. drive the arm, and name what the model predicts well and what it does not;
# 2. write the conditions of a plan without reading a measured position of the future;
# 3. test by counterfactuals whether a model uses its actions;
# 4. recognise a used and a collapsed latent by their samples;
# 5. hand in your work.
#
# **You need** pages [3](03_model.ipynb) to [5](05_results.ipynb).
#
# **Time**: about 40 minutes to read and to solve the exercise; about a minute to run.

# %%
import labkit
from labkit.course.checks import CheckFailed, check_expected_condition

labkit.lab_setup()

# %% [markdown]
# ## 6.1 The condition of a plan
#
# The condition of a frame is the action and the position of the end effector, $c_t = (a_t, p_t)$.
# At the last context frame $p_1$ is measured. Later positions do not exist yet when a plan is made,
# so they are added up from the actions: $p_{t+1} = p_t + (dx, dy, 0)$.
#
# **Exercise 1.** Write the conditions. `p_1` is (3,), `actions` (N, 4) begin at that frame; the
# result is (N, 7). Row k has action k, and the position *before* it.

# %%
import torch


# %% nbgrader={"grade": false, "grade_id": "expected-condition", "locked": false, "schema_version": 3, "solution": true, "task": false}
def expected_condition(p_1, actions):
    """Conditions (N, 7) from one measured position and the actions."""
    ### BEGIN SOLUTION
    moves = torch.zeros(len(actions), 3).to(p_1)
    moves[1:, :2] = actions[:-1, :2]
    return torch.cat([actions, p_1 + moves.cumsum(dim=0)], dim=1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-expected-condition", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
check_expected_condition(expected_condition)


# %% [markdown]
# The check finds a position that is one step too early, too:


# %%
def one_step_too_early(p_1, actions):
    moves = torch.cat([actions[:, :2], torch.zeros(len(actions), 1)], dim=1)
    return torch.cat([actions, p_1 + moves.cumsum(dim=0)], dim=1)


try:
    check_expected_condition(one_step_too_early, seed=1)
    raise AssertionError("the check must fail")
except CheckFailed as failure:
    print(failure.hint)

# %% [markdown]
# ## 6.2 Drive
#
# Two frames of a test clip are given. The cell below makes the first three moves. After you have
# run it, click into the picture and use the keys:
#
# | key | next action |
# | --- | --- |
# | ← → | move left, right |
# | ↑ ↓ | move away from the camera, towards it |
# | u, d, s | raise, lower, stay |
# | f | close or open the fingers |
# | backspace, r | one step back, back to the start |
# | z | draw $z$ again, with the same actions |

# %%
from pathlib import Path

from labkit.data.simulator import SPLIT_OFFSETS, simulate_clip
from labkit.training import load_model
from labkit.views import pilot

model, config = load_model(Path("demo_run"))
n_past, horizon = config.data.n_past, config.data.n_future

clip = simulate_clip(config.seed, SPLIT_OFFSETS["test"] + 3, n_past + horizon)
pilot(model, clip, n_past=n_past).drive(["right"] * 3)

# %% [markdown]
# On the right (in the still picture: below) is the simulation of the same actions. *Save* writes
# `episode.gif` and `actions.csv`.
#
# ## 6.3 Same past, four plans
#
# The model predicts four plans from the same two frames and with the same $z$. So all differences
# come from the actions. Move the slider.

# %%
from labkit.views import futures_of_plans, plan, scrub

plans = {way: plan(way, horizon) for way in ("left", "right", "away", "near")}
futures = futures_of_plans(model, clip, plans, n_past=n_past, seed=config.seed)
scrub(futures.rows(), n_past=n_past, scale=2)

# %% [markdown]
# We compare each prediction with two simulations: of the same plan, and of the *opposite* plan. A
# model that ignores its actions would have the same PSNR for both.

# %%
from labkit.views.scrub_page import psnr_of_frames

opposite = {"left": "right", "right": "left", "away": "near", "near": "away"}
print(f"{'plan':<8}{'same plan':>12}{'opposite plan':>16}   (PSNR, dB)")
for way, frames in futures.predicted.items():
    same, other = (
        psnr_of_frames(futures.simulated[real][n_past:], frames[n_past:]).mean()
        for real in (way, opposite[way])
    )
    print(f"{way:<8}{same:12.0f}{other:16.0f}")
    assert same > other + 1

# %% [markdown]
# ## 6.4 Counterfactuals
#
# In these plans one move is repeated. The data have no such clips. A fairer test takes the past of
# one clip and the actions of *another* clip. This combination never happened (it is a
# *counterfactual*), but the simulator can compute its result.

# %%
from IPython.display import Image

from labkit.views import filmstrip, png_bytes

other = simulate_clip(config.seed, SPLIT_OFFSETS["test"] + 5, n_past + horizon)
rows = slice(n_past - 1, n_past + horizon - 1)
swapped = {"own actions": clip.actions[rows], "other actions": other.actions[rows]}
both = futures_of_plans(model, clip, swapped, n_past=n_past, seed=config.seed)
Image(png_bytes(filmstrip(both.rows(), n_past=n_past, steps=(1, 2, 4, 6, 8, 11))))

# %%
for name, frames in both.predicted.items():
    score = psnr_of_frames(both.simulated[name][n_past:], frames[n_past:]).mean()
    print(f"{name:<14} {score:.0f} dB")
    assert score > 18

# %% [markdown]
# The prediction follows actions that do not belong to this past.
#
# ## 6.5 Where it breaks: objects that are pushed
#
# In this clip the gripper is behind two objects. The plan pushes them towards the camera and then
# goes back.

# %%
import numpy as np

behind = simulate_clip(config.seed, SPLIT_OFFSETS["test"] + 20, n_past + horizon)
push = np.concatenate([plan("near", 5, speed=0.06), plan("away", 5, speed=0.06)])
pushed = futures_of_plans(model, behind, {"push": push}, n_past=n_past, seed=config.seed)
rows = {"truth": pushed.simulated["push"], "prediction": pushed.predicted["push"]}
Image(png_bytes(filmstrip(rows, n_past=n_past, steps=(1, 3, 5, 7, 9, 11))))

# %% [markdown]
# The arm moves as it should. But in the prediction the objects stay behind. We measure the error in
# the lower part of the last frame, at the pixels that the push has changed.

# %%
context, truth, prediction = (
    each[-1, :, 36:].astype(float) for each in (behind.frames[:n_past], *rows.values())
)
changed = np.abs(truth - context).max(axis=0) > 40
error = {
    "prediction": np.abs(truth - prediction)[:, changed].mean(),
    "repeat the last context frame": np.abs(truth - context)[:, changed].mean(),
}
for name, value in error.items():
    print(f"{name:<30} error {value:.0f} grey levels")
print(f"pixels: {100 * changed.sum() / 64**2:.0f} % of the frame")
assert changed.sum() > 100
assert abs(np.subtract(*error.values())) < 10

# %% [markdown]
# There the prediction is no better than the last context frame. The PSNR of the whole frame hardly
# shows this, because these are only a few percent of the pixels.
#
# ## 6.6 A longer rollout
#
# The model was trained on ten steps. We let the arm stand still for 28 steps. Does the error to the
# simulation grow?

# %%
still = {"stay": plan("stay", 28)}
long = futures_of_plans(model, clip, still, n_past=n_past, seed=config.seed)
predicted, simulated = (each["stay"].astype(float) for each in (long.predicted, long.simulated))
error = np.abs(predicted - simulated).mean(axis=(1, 2, 3))[n_past:]
for step in (1, 10, 28):
    print(f"step {step:2}: error {error[step - 1]:.0f} grey levels")
assert error[-1] < error[0] + 2

# %% [markdown]
# In this clip it does not: a table that stands still is easy.
#
# ## 6.7 What $z$ does in this run
#
# One plan, four draws of $z$:

# %%
from labkit.views import futures_of_draws

draws = futures_of_draws(model, clip, plans["near"], 4, n_past=n_past, seed=config.seed)


def mean_difference(clips):
    """Mean difference of a pixel between any two of the clips, in grey levels."""
    all_frames = np.stack([each[n_past:] for each in clips.values()]).astype(float)
    pairs = [np.abs(a - b).mean() for i, a in enumerate(all_frames) for b in all_frames[:i]]
    return np.mean(pairs)


print(f"four plans, one z: {mean_difference(futures.predicted):.0f} grey levels")
print(f"one plan, four z:  {mean_difference(draws.predicted):.0f}")
assert mean_difference(futures.predicted) > 5 * mean_difference(draws.predicted)

# %% [markdown]
# The actions determine the prediction, and $z$ has almost no effect: in this run the posterior has
# collapsed. Does
# that mean that the future is certain? No. It means that this model does not use $z$.
#
# ## 6.8 A used latent beside a collapsed one
#
# The two runs of section 4.9 of [04_training](04_training.ipynb) have no condition, so the motion
# of the arm is unknown. In `free_run` the latent is used. In `free_collapsed_run` it has collapsed.
# We draw three samples of each for four test clips.

# %%
from labkit.course.small_model import simulated_windows

unseen, rows = simulated_windows(4, first=SPLIT_OFFSETS["test"])
no_condition = rows[:, :, :0]  # no columns
samples, deviation = {}, {}
for name, folder in (("used", "free_run"), ("collapsed", "free_collapsed_run")):
    free, _ = load_model(Path(folder))
    chance = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        samples[name] = free.predict(unseen[:, :2], no_condition, 10, samples=3, generator=chance)
    deviation[name] = 255 * samples[name].std(dim=1).mean().item()
    print(f"{name:<10} deviation of a pixel over the samples: {deviation[name]:.0f} grey levels")
assert deviation["used"] > 1
assert deviation["used"] > 5 * deviation["collapsed"]

# %% [markdown]
# The three samples of each run, for the last of the four clips:

# %%
from labkit.views import to_uint8

strips = {"truth": to_uint8(unseen[3])}
for name, of_clips in samples.items():
    for number, sample in enumerate(of_clips[3], start=1):
        whole = torch.cat([unseen[3, :2], sample])
        strips[f"{name} {number}"] = to_uint8(whole, clip=True)
Image(png_bytes(filmstrip(strips, n_past=2, steps=(1, 2, 4, 6, 8, 11))))

# %% [markdown]
# All samples are blurred. With a used latent the three samples are different: in the first two
# there is a dark arm, at different places, and in the third the arm nearly disappears. With a
# collapsed latent the three samples are the same picture: a faint blur over all places where the
# arm can be. A sample does not have to equal the truth. The truth is only one of the possible
# futures.
#
# ## 6.9 Hand in
#
# The coursework asks for a GIF of a test result, the prediction at each time step, curves of KL and
# PSNR with KL weight and teacher-forcing ratio, and a discussion. The whole way in a terminal, in
# the folder of the notebooks:
#
# ```
# labkit check                                  says which exercises pass
#
# labkit train course --data.root DATA --out runs/cyclical
# labkit train course --data.root DATA --out runs/monotonic --kl.schedule monotonic
#
# labkit evaluate runs/cyclical --protocol course      PSNR, figures, GIFs; the same for the other
# labkit prove runs/cyclical                           no future frame is read; the same
# labkit compare runs/cyclical runs/monotonic          differences with intervals
#
# labkit submit --student-id ID --name NAME --run runs/cyclical --run runs/monotonic
# ```
#
# Before the last command, write your discussion into `report.md`. `labkit submit` executes the
# notebooks, adds the figures of your runs to the report, and writes one zip file. It lists what is
# still missing. With `--check-only` it only lists. `docs/course.md` explains the steps, and where
# `report.md` comes from.
#
# ## Summary
#
# 1. A plan's conditions use one measured position; the others are added up from the actions.
# 2. A model that uses its actions scores better under the same plan than under the opposite one.
# 3. In a simulator a counterfactual has a true answer.
# 4. The demo moves the arm, but not the objects that it pushes.
# 5. If several draws of $z$ give the same frames, the model does not use $z$.
#
# ## What can go wrong
#
# - A measured position of the future in a plan. See 6.1.
# - A good PSNR hides objects that do not move. See 6.5.
# - Equal samples are read as a certain future. They only say that $z$ is not used. See 6.7 and 6.8.
#
# ## More exercises
#
# 2. Drive so that the prediction is sharp and wrong. Save the episode. Which plan is the worst?
# 3. Drive four steps right and four steps left. What is now at the place where the arm began?
# 4. In 6.5, use `lifted=True` in both plans. What changes in the simulation? In the prediction?
#
# ## Links
#
# - C. Finn, S. Levine, *Deep Visual Foresight for Planning Robot Motion*, 2017:
#   <https://arxiv.org/abs/1610.00696>
# - In the package: `labkit/views/pilot.py`, `labkit/views/futures.py`,
#   `labkit/evaluation/counterfactual.py`, `labkit/evaluation/positions.py`, `docs/course.md`.
#
# Next: [01_elbo_derivation](01_elbo_derivation.ipynb) again, with a run of your own.
