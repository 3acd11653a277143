# %% [markdown]
# # 6 · Drive the arm
#
# [05_results](05_results.ipynb) measured how well a model repeats what happened. A model that is
# given the actions can also be asked *what if?* Here you choose the actions, and the model shows
# the next frames.
#
# **After this page you can**
#
# 1. drive the arm, and name what the model gets right and wrong;
# 2. write the conditions of a plan without reading a measured position of the future;
# 3. test by counterfactuals whether a model uses its actions;
# 4. tell a used latent from a collapsed one.
#
# **You need** pages [3](03_model.ipynb) to [5](05_results.ipynb).
#
# **Time**: about 40 minutes to read and to play; about two minutes to run.

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
# Two frames of a test clip are given. The cell below drives by a program; once it is run, click
# into the picture and use the keys:
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
pilot(model, clip, n_past=n_past).drive(["right"] * 4 + ["near"] * 4)

# %% [markdown]
# On the right is what the simulator does under the same actions. *Save* writes `episode.gif` and
# `actions.csv`.
#
# ## 6.3 Same past, four plans
#
# Four plans as one batch, with the same $z$: what differs is due to the actions.

# %%
from labkit.views import futures_of_plans, plan, scrub

plans = {way: plan(way, horizon) for way in ("left", "right", "away", "near")}
futures = futures_of_plans(model, clip, plans, n_past=n_past, seed=config.seed)
scrub(futures.rows(), n_past=n_past, scale=2)

# %% [markdown]
# Each prediction is compared with what the simulator does under the same plan, and under the
# *opposite* plan. A model that ignores its actions would score the same for both.

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
# A plan of one move is unlike the data. A fairer question: the past of one clip with the actions of
# *another*. This never happened, but the simulator can compute it.

# %%
from IPython.display import Image

from labkit.views import filmstrip, png_bytes

other = simulate_clip(config.seed, SPLIT_OFFSETS["test"] + 5, n_past + horizon)
rows = slice(n_past - 1, n_past + horizon - 1)
swapped = {"own actions": clip.actions[rows], "other actions": other.actions[rows]}
both = futures_of_plans(model, clip, swapped, n_past=n_past, seed=config.seed)
Image(png_bytes(filmstrip(both.rows(), scale=2, n_past=n_past)))

# %%
for name, frames in both.predicted.items():
    score = psnr_of_frames(both.simulated[name][n_past:], frames[n_past:]).mean()
    print(f"{name:<14} {score:.0f} dB")
    assert score > 18

# %% [markdown]
# ## 6.5 A longer rollout
#
# The model was trained on ten steps. Thirty steps of standing still should change nothing. How far
# is the last frame from the last context frame, in the prediction and in the simulation?

# %%
import numpy as np

from labkit.views import futures_of_draws

still = {"stay": plan("stay", 28)}
long = futures_of_plans(model, clip, still, n_past=n_past, seed=config.seed)
predicted, simulated = (each["stay"].astype(float) for each in (long.predicted, long.simulated))
error = np.abs(predicted - simulated).mean(axis=(1, 2, 3))[n_past:]
print(
    f"error in grey levels: step 1 {error[0]:.0f}, step 10 {error[9]:.0f}, step 28 {error[-1]:.0f}"
)
assert np.isfinite(error).all()

# %% [markdown]
# ## 6.6 A used latent beside a collapsed one
#
# One plan, four draws of $z$:

# %%
draws = futures_of_draws(model, clip, plans["near"], 4, n_past=n_past, seed=config.seed)


def apart(clips):
    """Mean difference of a pixel between any two of the clips, in grey levels."""
    all_frames = np.stack([each[n_past:] for each in clips.values()]).astype(float)
    pairs = [np.abs(a - b).mean() for i, a in enumerate(all_frames) for b in all_frames[:i]]
    return np.mean(pairs)


print(f"four plans, one z: {apart(futures.predicted):.0f} grey levels")
print(f"one plan, four z:  {apart(draws.predicted):.0f}")
assert apart(futures.predicted) > 5 * apart(draws.predicted)

# %% [markdown]
# The actions decide, and $z$ does almost nothing: in this run the posterior has collapsed. The
# histories of page 4 show both cases, in the task without actions:

# %%
from labkit.training import read_history

for name in ("no_condition_cyclical", "no_condition_cyclical_weight_1"):
    history = read_history(Path("small_runs") / name)
    active, gain = history["active_units"][-1], history["posterior_gain"][-1]
    print(f"{name:<31} {active:.0f} of 8 units active, posterior gain {gain:.1f} dB")

# %% [markdown]
# ## Summary
#
# 1. A plan's conditions use one measured position; the rest is added up from the actions.
# 2. A model that uses its actions scores better under the same plan than under the opposite one.
# 3. Counterfactuals have a true answer in a simulator.
# 4. A rollout that is longer than those of training must be measured, not assumed.
# 5. If several draws of $z$ give the same frames, the posterior has collapsed.
#
# ## What can go wrong
#
# - A measured position of the future in a plan. See 6.1.
# - A collapsed latent that is taken for certainty. See 6.6.
#
# ## More exercises
#
# 2. Drive so that the model is sharp and wrong. Save the episode. Which plan makes it worst?
# 3. Four steps right, four steps left: what has become of the place where the arm began?
# 4. Make plans that differ in `lifted=True` alone, across an object. Does the model know it?
#
# ## Links
#
# - C. Finn, S. Levine, *Deep Visual Foresight for Planning Robot Motion*, 2017:
#   <https://arxiv.org/abs/1610.00696>
# - In the package: `labkit/views/pilot.py`, `labkit/views/futures.py`,
#   `labkit/evaluation/counterfactual.py`, `labkit/evaluation/positions.py`.
#
# ## For your report
#
# The coursework asks for a GIF of a test result, the prediction at each time step, curves of KL and
# PSNR with KL weight and teacher-forcing ratio, and a discussion. `labkit evaluate RUN` writes all
# pictures into the run's folder, with `report.html`. The discussion is yours.
#
# Next: [01_elbo_derivation](01_elbo_derivation.ipynb) again, with a run of your own.
