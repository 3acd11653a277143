# %% [markdown]
# # 3 · The model: a CVAE unrolled over time
#
# [02_dataloader](02_dataloader.ipynb) ended with a batch: frames $x_t$ and conditions $c_t$. The
# model makes $\hat x_1, \hat x_2, \dots$ of it, one after the other. It is of the family of SVG
# (Denton & Fergus 2018), with the robot's condition added. For $t = 1, \dots, T-1$:
#
# $$\begin{aligned}
# h_{t-1} &= \mathrm{Enc}(x_{t-1}) && x_{t-1}\text{: true in the context, later as rolled out} \\
# z_t &\sim q_\phi(z_t \mid x_{1:t}, c) && \text{while learning, and in reconstructions} \\
# z_t &\sim p(z_t) = \mathcal{N}(0, I) && \text{in predictions} \\
# g_t &= \mathrm{LSTM}_\theta(h_{t-1}, c_{t-1}, z_t) \\
# \hat x_t &= \mathrm{Dec}(g_t, \text{skip features})
# \end{aligned}$$

# %%
import labkit

labkit.lab_setup()

# %% [markdown]
# ## 3.1 Stage by stage
#
# The `smoke` preset is the smallest model of the lab. Its weights here are random: this page is
# about what goes where. The batch is two windows of 2 + 10 simulated frames.

# %%
import dataclasses

import torch

from labkit.data.simulator import simulate_clip
from labkit.model import VideoCVAE
from labkit.presets import preset
from labkit.reporting.evaluate_run import window_of

smoke = preset("smoke")
config = dataclasses.replace(smoke, model=dataclasses.replace(smoke.model, predictor="lstm"))
model = VideoCVAE(config.model, config.data.condition_size).eval()
windows = [window_of(simulate_clip(seed=1, index=i), config, f"clip {i}") for i in (1, 2)]
frames, condition = (torch.cat(parts) for parts in zip(*windows, strict=True))
print("frames", tuple(frames.shape), " condition", tuple(condition.shape))

# %% [markdown]
# One step, $t = 1$, with everything it needs: the frame before it, the condition that leads to
# it, and, as in learning, a $z_1$ from a posterior that has seen $x_1$.

# %%
from labkit.model.backbones import Skips

with torch.no_grad():
    h, features = model.encoder(frames[:, 0])
    h_target, _ = model.encoder(frames[:, 1])
    c = condition[:, :1]
    q, _ = model.posterior(torch.cat([h_target[:, None], c], dim=-1))
    z = q.sample()
    g, state = model.predictor(h[:, None], torch.cat([c, z], dim=-1))
    skips = Skips(model.decoder.prepare([each[:, None] for each in features]), source=[0])
    maps = model.decoder(g[:, 0], skips, model.cue(c[:, 0]))
    anchor = model.output.keep(frames[:, 0], features)  # what it draws on later: section 3.7
    told = torch.cat([c, c - c], dim=-1)[:, 0]  # the condition, and its change since the anchor
    predicted = model.output(maps, g[:, 0], frames[:, 0], anchor, told)

named = {"x_0": frames[:, 0], "h_0": h, "q mean": q.mean, "z_1": z, "g_1": g, "maps": maps}
for name, tensor in (named | {"predicted x_1": predicted}).items():
    print(f"{name:<14}{tuple(tensor.shape)}")
print("skip features", *(tuple(each.shape) for each in features))

# %% [markdown]
# $h$, $z$ and $g$ are all of a frame that the LSTMs know: a few numbers. The **skip features**
# carry what such a bottleneck cannot, the sharp and still background, past it to the decoder.
# The course's model takes them from the last context frame, this one from the frame fed back.
#
# A vector $g$ also forgets *where* things are, and the decoder has to say it anew. The `demo`
# preset therefore has a **ConvLSTM** (Shi et al. 2015) for $\mathrm{LSTM}_\theta$: its state and
# its $g_t$ are feature maps of an eighth of the frame's side (`model.predictor="convlstm"`).

# %% [markdown]
# ## 3.2 How large?
#
# The course's sample code has a `vgg64` backbone and larger encodings; the `demo` preset is made
# to be trained in minutes on a CPU. Every time step shares these weights.

# %%
names = ("encoder", "decoder", "predictor", "posterior")
print(f"{'':<9}" + "".join(f"{name:>12}" for name in (*names, "all")))
for which in ("course", "demo"):
    network = VideoCVAE(preset(which).model, condition_size=7)
    sizes = [sum(p.numel() for p in getattr(network, name).parameters()) for name in names]
    total = sum(p.numel() for p in network.parameters())
    print(f"{which:<9}" + "".join(f"{size:>12,}" for size in (*sizes, total)))

# %% [markdown]
# ## 3.3 Reparameterisation
#
# $z$ is drawn, and through a draw no gradient passes. Written as
# $z = \mu + \sigma \epsilon$ with $\epsilon \sim \mathcal{N}(0, I)$ the chance is an input, and
# $z$ is a plain function of $\mu$ and $\log \sigma^2$:
# $\partial z / \partial \mu = 1$ and $\partial z / \partial \log \sigma^2 = (z - \mu) / 2$.

# %%
from labkit.model import Gaussian

mean = torch.tensor([[0.5, -1.0, 2.0]], requires_grad=True)
log_variance = torch.tensor([[0.0, -2.0, 1.0]], requires_grad=True)
z = Gaussian(mean, log_variance).sample(torch.Generator().manual_seed(1))
z.sum().backward()

print("dz/dmean         ", mean.grad)
print("dz/dlog_variance ", log_variance.grad)
print("(z - mean) / 2   ", ((z - mean) / 2).detach())

# %% [markdown]
# ## 3.4 Three rollouts
#
# | | fed back after the context | $z_t$ from | for |
# | --- | --- | --- | --- |
# | `rollout` | true frames *or* predictions | posterior | learning |
# | `reconstruct` | predictions | posterior, which sees $x_t$ | an upper reference |
# | `predict` | predictions | prior | the result |
#
# **Teacher forcing decides which frame is fed back, and nothing else.** In both cases $z_t$ comes
# from the posterior, which is learned either way. (The report this lab began with drew $z$ from a
# fixed Gaussian wherever it did not force: then the posterior learns nothing from those steps.)


# %%
def roll(forced, frames):
    """The training rollout, with the same noise each time."""
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        return model.rollout(frames, condition, 2, teacher_forced=forced, generator=noise)


def differ(one, other):
    """The time steps whose predictions are not the same, bit for bit."""
    return [t for t in range(1, 12) if not one.frames[:, t - 1].equal(other.frames[:, t - 1])]


forced, free = roll(True, frames), roll(False, frames)
print("same posterior:", torch.equal(forced.posterior.mean, free.posterior.mean))
print("predictions differ at t =", differ(forced, free))

# %% [markdown]
# They part at $t = 3$: it is the first step whose $x_{t-1}$ is no context frame. Which frames
# does a rollout look at? Change one, and see what moves. Frame 5, turned into its negative:

# %%
changed = frames.clone()
changed[:, 5] = 1 - frames[:, 5]
print("teacher forced", differ(forced, roll(True, changed)))
print("free-running  ", differ(free, roll(False, changed)))

# %% [markdown]
# Free-running sees it too, although it is fed its own predictions: through $z_5$, whose posterior
# looks at its target. Blind the posterior, so that $z$ tells nothing, and only feeding is left:

# %%
with torch.no_grad():
    for head in (model.posterior.mean, model.posterior.log_variance):
        head.weight.zero_()

for name, choice in (("teacher forced", True), ("free-running  ", False)):
    print(name, differ(roll(choice, frames), roll(choice, changed)))

# %% [markdown]
# With forcing, frame 5 is fed at step 6, and from there the LSTM remembers it. Without, a frame
# after the context is never read at all. The price of forcing is the other side of the same
# table: a model that has only ever been fed true frames meets its own, slightly wrong ones for
# the first time in the test (Bengio et al. 2015).

# %% [markdown]
# ## 3.5 A prediction cannot read the future
#
# Whether a rollout at test time is honest should not rest on reading its code. `predict` is not
# given a future frame: it takes the context, the conditions and a number; the rest is about the
# draws of $z$.

# %%
import inspect

for name, parameter in inspect.signature(model.predict).parameters.items():
    print(f"{name:<10} {parameter.annotation}")

# %% [markdown]
# And a test that works on any rollout: fill what must not be read with NaN, which no arithmetic
# gets rid of. The last condition row, $c_{11}$, belongs to a step after the last, so it goes too.

# %%
from labkit.errors import ShapeError

poisoned, rows = frames.clone(), condition.clone()
poisoned[:, 2:], rows[:, 11] = torch.nan, torch.nan
with torch.no_grad():
    predicted = model.predict(poisoned[:, :2], rows, horizon=10)
print("predict is finite:", predicted.isfinite().all().item())
try:
    model.reconstruct(poisoned, rows, 2)
except ShapeError as error:
    print("reconstruct:", error)

# %% [markdown]
# A *reconstruction* sees what it is to make, and so it is given the NaNs. It says how much $z$
# can carry, and must never be reported as a prediction. Nor must a loop that feeds true frames
# after the context: some public solutions of this task do that, and their figures are too high.

# %% [markdown]
# ## 3.6 Where training and rollout differ: batch norm
#
# The course's model normalises by **batch statistics** while it learns, and by their moving
# average in the test. The averages were gathered over all time steps of all batches, and mostly
# over true frames; a free-running rollout feeds frames that blur from step to step, and whose
# statistics drift. The same weights are then another function. Group norm (Wu & He 2018) looks at
# each frame alone and is the same function always; the `demo` preset uses it.

# %%
for kind, network in (("batch", "course"), ("group", "demo")):
    encoder = VideoCVAE(preset(network).model, condition_size=7).encoder
    with torch.no_grad():
        training, rollout = encoder.train()(frames[:, 0])[0], encoder.eval()(frames[:, 0])[0]
    print(f"{kind} norm: same encoding in both modes: {torch.allclose(training, rollout)}")

# %% [markdown]
# ## 3.7 What the decoder's maps become
#
# The course's decoder paints every pixel anew, through a sigmoid. But nearly all of a frame was
# in the frame before it. With `output="flow"` (after Finn et al. 2016) there are three
# sources, blended under masks that sum to 1 at each pixel: the previous frame *moved* by a flow,
# the last context frame, and fresh pixels for what neither of them shows.
#
# $$\hat x_t = m_1 \odot \mathrm{warp}(\hat x_{t-1}, f) + m_2 \odot x_{\text{context}}
#   + m_3 \odot \text{fresh}$$
#
# The flow says where to read, in pixels: with $f = (6, 0)$ everything moves 6 pixels to the left.

# %%
from IPython.display import Image

from labkit.model.warping import warp
from labkit.views import filmstrip, png_bytes, to_uint8

steps = torch.tensor([0.0, 3.0, 6.0, 9.0])
flow = torch.zeros(4, 2, 64, 64)
flow[:, 0] = steps[:, None, None]
moved_frames = warp(frames[:1, 0].expand(4, -1, -1, -1), flow)

difference = (moved_frames[2, :, :, :58] - frames[0, 0, :, :, 6:]).abs().max()
print(f"moved by 6 pixels, the largest difference is {difference:.4f}")
Image(png_bytes(filmstrip({"moved 3 t pixels": to_uint8(moved_frames.clamp(0, 1))}, scale=2)))

# %% [markdown]
# Beyond its border the frame is repeated: such places are what masks and fresh pixels are for.
#
# A frame that is moved again at every step blurs, and after ten of them the arm would be a smear.
# The `demo` preset has `output="layer"`: a mask, made once from the last context frame, cuts a
# *layer* out of it, and at each step frame and mask are shifted, scaled and sheared as a whole. By
# how much follows from the condition, and from what has changed in it since that frame. Nobody
# told the network what an arm is. Here is what the demo's weights (notebook 05) have come to cut
# out, on a test clip, and where they carry it:

# %%
from pathlib import Path

from labkit.data.simulator import SPLIT_OFFSETS
from labkit.training import load_model

trained, settings = load_model(Path("demo_run"))
layers = []


def note_the_layer(output, inputs):
    _, g, _, anchor, told = inputs
    layers.append(output.carried(anchor, g, told))


hook = trained.output.register_forward_pre_hook(note_the_layer)
one = simulate_clip(seed=1, index=SPLIT_OFFSETS["test"] + 2)
clip, its_condition = window_of(one, settings, "test clip 2")
with torch.no_grad():
    made = trained.predict(clip[:, :2], its_condition, 10, sample=False)[0]
hook.remove()

# %%
colour, mask = torch.cat(layers)[:, :3], torch.cat(layers)[:, 3:].sigmoid()
past, layer = clip[0, :2], colour * mask + 1 - mask
rows = {
    "what happened": clip[0],
    "predicted": torch.cat([past, made]),
    "the layer": torch.cat([torch.ones_like(past), layer]),
}
shown = {name: to_uint8(each.clamp(0, 1)) for name, each in rows.items()}
Image(png_bytes(filmstrip(shown, n_past=2)))

# %% [markdown]
# The fainter, the less the mask takes of it. What the layer leaves out, the other sources show: the
# place where the arm was at first, which no frame shows, and things that are pushed.
#
# Next: [04_training](04_training.ipynb), how the weights get their values.
