# %% [markdown]
# # 6 · Drive the arm
#
# [05_results](05_results.ipynb) judged a model by how well it repeats what happened. But a model
# that is told the actions can be asked more: *what if?* Here it is a small world in which you
# choose the action and it shows the next frame. Whether it listens, and what its $z$ has to say,
# can be seen at once.

# %%
import labkit

labkit.lab_setup()

# %% [markdown]
# ## 6.1 At the stick
#
# The same run as in 05, and the past of a clip that it has never seen: two frames. Everything
# after them is up to the pilot. The cell below drives a little by program; once it is run, the
# stick is yours. Click into it, then:
#
# | key | next action |
# | --- | --- |
# | ← → | move left, right |
# | ↑ ↓ | move away from the camera, near to it |
# | u, d, s | raise, lower, stay |
# | f | close or open the fingers |
# | backspace, r | one step back, back to the start |
# | z | another future: $z$ drawn anew, the same actions |

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
# At the right is what the simulator does under the same actions: the truth of *your* film, which
# nobody has recorded. What to look for:
#
# - The arm obeys, at once and in all four directions.
# - What it leaves behind, and what it pushes, turns to blur. Drive over an object and back again.
# - Raise the gripper (u) before you cross an object. Does the model know the difference?
# - The model was trained on ten steps. Go on for thirty, and see it come apart.
#
# **Where does the arm's position come from?** The condition is the action *and* where the end
# effector is, $c_t = (a_t, p_t)$. The position of a frame that is not there yet cannot be
# measured, and to take the simulator's would be to peek. So it is added up from the actions:
# $p_{t+1} = p_t + (dx, dy)$ within the arm's reach, and the height from the lift. The real arm has
# an error of some percent in each move, and jams against walls: it drifts away from that.

# %%
import numpy as np

position, told = clip.positions[n_past - 1], clip.actions[n_past - 1 :]
print("  t   expected x, y, z (cm)     reached x, y, z (cm)")
for t, action in enumerate(told[:5], start=n_past):
    position = clip.world.expected(position, action)
    columns = (f"{100 * value:7.1f}" for value in np.concatenate([position, clip.positions[t]]))
    x, y, z, *reached = columns
    print(f"{t:3}  {x}{y}{z}    {''.join(reached)}")

# %% [markdown]
# *Save* keeps an episode: `episode.gif`, and `actions.csv` as in the course's layout. By program
# it is `.episode.save("my_episode")`.
#
# ## 6.2 Same past, four futures
#
# Four plans at once, as one batch. All have the same $z$: what differs is due to the actions
# alone. Beside each prediction stands what the simulator does.

# %%
from labkit.views import futures_of_plans, plan, scrub

plans = {way: plan(way, horizon) for way in ("left", "right", "away", "near")}
futures = futures_of_plans(model, clip, plans, n_past=n_past, seed=config.seed)

scrub(futures.rows(), n_past=n_past, scale=2)

# %% [markdown]
# Held against what the simulator does under the same plan, and against what it does under the
# *opposite* one. A model that does not listen would get as much for the one as for the other.

# %%
from labkit.views.scrub_page import psnr_of_frames

opposite = {"left": "right", "right": "left", "away": "near", "near": "away"}
print(f"{'plan':<8}{'under this plan':>16}{'under the opposite':>20}   (PSNR, dB)")
for way, film in futures.predicted.items():
    scores = [
        psnr_of_frames(futures.simulated[real][n_past:], film[n_past:]).mean()
        for real in (way, opposite[way])
    ]
    print(f"{way:<8}{scores[0]:16.1f}{scores[1]:20.1f}")

# %% [markdown]
# ## 6.3 Swapped actions
#
# A plan of one move is easy to see and unlike the data. A fairer question: the past of one clip
# with the actions of *another*. That film was never made, but the simulator can make it, so the
# prediction has a truth to be held against: a **counterfactual**.

# %%
from IPython.display import Image

from labkit.views import filmstrip, png_bytes

other = simulate_clip(config.seed, SPLIT_OFFSETS["test"] + 5, n_past + horizon)
rows = slice(n_past - 1, n_past + horizon - 1)
swapped = {"own actions": clip.actions[rows], "another's": other.actions[rows]}
both = futures_of_plans(model, clip, swapped, n_past=n_past, seed=config.seed)

Image(png_bytes(filmstrip(both.rows(), scale=1, n_past=n_past)))

# %% [markdown]
# And for sixteen clips, with the lab's own measure. Each gets the actions of the clip whose arm is
# nearest, so that they ask for places within reach. The gripper is looked for in the predicted
# frame, and its distance from the true one given in pixels.

# %%
import dataclasses
import tempfile

from labkit.data.dataset import ClipDataset
from labkit.data.simulator import simulate_pack
from labkit.evaluation.controllability import controllability

temporary = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
root = Path(temporary.name) / "simulated"
simulate_pack(root, config.seed, {"test": 16}, progress=False)
here = dataclasses.replace(config.data, root=str(root))
dataset = ClipDataset.from_config(here, "test", windows="first")

measured = controllability(model, dataset, clips=None, seed=config.seed)
for name, values in measured.psnr.items():
    error = measured.effector_error.get(name)
    pixels = "" if error is None else f"   gripper off by {np.nanmean(error):.0f} pixels"
    print(f"{name:<36}{values.mean():5.1f} dB{pixels}")

# %% [markdown]
# Under other actions the model is about as good as under the clip's own: it has not learned films
# by heart. Had it ignored the new actions, it would have made the film of the old ones
# (*ignored*), and been far off. And with the conditions of a stranger (*shuffled*) it misses what
# happened: the difference from the first line is what the condition is worth.
#
# ## 6.4 Same plan, four draws of $z$
#
# Now the other way round: one plan, and four times another $z$.

# %%
from labkit.views import futures_of_draws

draws = futures_of_draws(model, clip, plans["near"], 4, n_past=n_past, seed=config.seed)


def apart(films):
    """Mean absolute difference of a pixel between any two of the films, in grey levels."""
    made = np.stack([film[n_past:] for film in films.values()]).astype(float)
    pairs = [np.abs(a - b).mean() for i, a in enumerate(made) for b in made[:i]]
    return np.mean(pairs)


print(f"four plans, one z:       {apart(futures.predicted):4.0f} grey levels of 255")
print(f"one plan, four z:        {apart(draws.predicted):4.0f}")
print(f"four plans, simulated:   {apart(futures.simulated):4.0f}")

# %% [markdown]
# The actions decide nearly everything here, and $z$ next to nothing. For the arm that is right:
# where it goes is known. But what a pushed thing of unknown weight does is not, and it is for this
# that $z$ is there.
#
# ## 6.5 What do the latents say?
#
# The KL of the ELBO is a sum over latents and time steps, and can be looked at one by one:

# %%
from labkit.evaluation.latents import infer_latents
from labkit.views import kl_heat_map

latents = infer_latents(model, dataset, clips=None, seed=config.seed)
batch = dataset.batch([3]).to("cpu")
temporary.cleanup()
kl_heat_map(latents.by_step(), n_past=n_past)

# %% [markdown]
# Some nats in each, at every step. Is it alive after all? A latent that tells something of a clip
# has another posterior for another clip: its **mean** must vary over the clips. One with a
# variance above 0.01 is called *active* (Burda et al. 2016).

# %%
from labkit.views import prior_and_posterior

print(f"KL above 0.01 nats:  {(latents.by_latent() > 0.01).sum()} of {len(latents.by_latent())}")
print(f"active:              {len(latents.active())} of {len(latents.by_latent())}")

flat = (getattr(latents, kind) for kind in ("q_mean", "q_std", "p_mean", "p_std"))
prior_and_posterior(
    *(each.reshape(-1, each.shape[-1]) for each in flat), latents=latents.order()[:3]
)

# %% [markdown]
# Here is the catch. The posterior is not the prior, so a KL is paid. But it is the *same* posterior
# for every clip: narrower than the prior, at one place. It says nothing about the target; it only
# makes less noise than the prior would. **Nats are paid, and nothing is told.** A KL of 0 is a
# collapsed posterior, but a KL above 0 is no proof of life: count the active latents.
#
# It also means that $z$ in a prediction, drawn from the prior, is noisier than any $z$ that the
# model saw in training. What does it do with that? Turn one latent at a time, from three standard
# deviations below the mean to three above, and look at the last predicted frame of the clip that
# was driven above:

# %%
from labkit.evaluation.latents import traverse
from labkit.views import traversal_strips

most = latents.order()[:4]
turned = traverse(model, batch.frames[0, :n_past], batch.condition[0], horizon, most)
traversal_strips(
    turned.frames[:, :, -1], turned.latents, turned.values, scores=latents.by_latent()[most]
)

# %% [markdown]
# Hardly anything to the naked eye: the last column is the difference of the two ends, eight times
# brighter than it is. No latent is "the object's weight" or "how far it slides". What changes is
# the blur: how dark it is at the rims of the arm and round the things that it touches, which is
# where the model does not know. That is noise, and none of it has a name.
#
# In a model with a living $z$ you would see a thing pushed far at one end and hardly at the other,
# the arm the same in all. Figures like these, rather than the total KL, are the evidence to show.

# %% [markdown]
# ## 6.6 Exercises
#
# 1. **Find an illusion.** Drive the arm so that the model is confidently wrong: sharp, plausible,
#    and not what the simulator does. Save the episode. Which plan makes it worst?
# 2. **There and back.** Four steps right, four steps left. What has become of the place where the
#    arm began, and why is it not what it was? Where would the model have to keep it?
# 3. **Off the map.** Drive on after the arm has reached the wall. The expected position stops at
#    the arm's reach. What if it did not? (`labkit.views.episode.expected_position`)
# 4. **Does it count the lift?** Make plans that differ in `lifted=True` alone, across an object,
#    and compare the object's pixels in prediction and simulation.
# 5. **A model that does not listen.** Train one with `data.condition=none`. What do 6.3 and the
#    pilot say of it? (The pilot says one sentence.)
# 6. **Wake the latent.** Train with free bits (`kl.free_bits`), with a learned prior, or the preset
#    `latent`. Count the active latents again; then look whether the *samples* become better, or
#    only the reconstructions. Where do samples differ, and is that where the future is open?
# 7. **Hold still.** With `stay`, nothing should move. What does the model do in thirty steps, and
#    what does that say of a loss that only ever looked at ten?
