# %% [markdown]
# # 2 · The data: from a clip's folder to a batch
#
# BAIR robot pushing small has 43,264 training clips and 256 test clips: 30 frames of 64 x 64
# pixels, in which a robot arm pushes toys about in a bin. This page follows a clip from its
# folder to the tensors that the model of [03_model](03_model.ipynb) is given, and names the
# mistakes that are easily made on the way. It needs no download: a simulated robot table makes
# clips of the same form.

# %%
import labkit

labkit.lab_setup()

# %% [markdown]
# ## 2.1 What lies on the disk
#
# The course hands out one folder a clip: a picture a frame, and two tables without a header.
# Here are two simulated clips, written in that layout to a temporary folder.

# %%
import tempfile
from pathlib import Path

from labkit.data import layout
from labkit.data.simulator import simulate_clip

temporary = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
root = Path(temporary.name) / "processed_data"
trajectories = root / "train" / "traj_512_to_767.tfrecords"
for index in (1, 2):
    layout.write_clip(trajectories / str(index - 1), simulate_clip(seed=1, index=index))

for folder in layout.clip_folders(root, "train"):
    others = sorted(file.name for file in folder.iterdir() if file.suffix != ".png")
    print(folder.relative_to(root.parent).as_posix())
    print(f"    {len(list(folder.glob('*.png')))} pictures (0.png ...)", *others, sep=", ")

# %% [markdown]
# `labels.npz` is the simulator's addition: it says of each pixel whether it shows the arm, an
# object that moves, or the rest. BAIR's clips have none, and no model gets to see it. (The
# ending `.tfrecords` is left over from the files that the clips came from; these are folders.)

# %%
import numpy as np
from IPython.display import Image

from labkit.data.clip import ARM, MOVED
from labkit.views import filmstrip, png_bytes

clip, white = layout.read_clip(trajectories / "0"), np.uint8(255)
regions = clip.labels[:, None]  # (T, 1, H, W), beside frames (T, 3, H, W)
rows = {
    "clip": clip.frames,
    "arm": np.where(regions == ARM, clip.frames, white),
    "moving objects": np.where(regions == MOVED, clip.frames, white),
}
Image(png_bytes(filmstrip(rows, scale=1, n_past=2, steps=range(12))))

# %% [markdown]
# The first 2 frames are the context, the next 10 are to be predicted. Most of a frame never
# changes, the arm goes where the robot is told to go, and the objects that are pushed, which alone
# are hard to foresee, are a few pixels in a hundred.

# %% [markdown]
# ## 2.2 Order is numeric
#
# A folder has no order of its own. `os.walk` and `os.listdir` give names as the file system
# happens to keep them, so "the first 12" of such a list are 12 frames of its choice: another 12
# on another computer. Sorting the names helps only half: text is sorted letter by letter.

# %%
names = [file.name for file in (trajectories / "0").glob("*.png")]
by_number = sorted(int(name.removesuffix(".png")) for name in names)
by_text = [int(name.removesuffix(".png")) for name in sorted(names)]
print("by number", by_number[:12])
print("by text  ", by_text[:12])

rows = {"by number": clip.frames[by_number[:12]], "by text": clip.frames[by_text[:12]]}
Image(png_bytes(filmstrip(rows, scale=1)))

# %% [markdown]
# By text `10.png` comes before `2.png`. Nothing crashes: the arm jumps, the actions no longer
# belong to the pictures, and the model learns a clip that never was. `labkit.data.layout` orders
# by number everywhere.

# %% [markdown]
# ## 2.3 Tables are found by their names
#
# A clip's two tables are also just files in a folder, and taking the first one listed for the
# actions is a coin toss. They are told apart by name, and their rows are counted against the
# frames. What does not fit is an error that says where, not a shorter clip.

# %%
from labkit.errors import DataError

(trajectories / "1" / "7.png").unlink()
try:
    layout.read_clip(trajectories / "1")
except DataError as error:
    print(f"{error.file.name}: {error.what}\n-> {error.hint}")

layout.write_clip(trajectories / "1", simulate_clip(seed=1, index=2))  # whole again

# %% [markdown]
# `labkit data check ROOT` does this for a whole data set before a night of training, not after.

# %% [markdown]
# ## 2.4 The condition: seven columns
#
# $c_t$ is what the model is told of the robot at time $t$: the action asked for (4 numbers), and
# where the end effector is (3 numbers).

# %%
from labkit.data.clip import ACTION_COLUMNS, POSITION_COLUMNS

units = ["m a frame", "m a frame", "see below", "0 or 1", "m", "m", "m"]
condition = np.concatenate([clip.actions, clip.positions], axis=1)
for column, (name, unit) in enumerate(zip(ACTION_COLUMNS + POSITION_COLUMNS, units, strict=True)):
    low, high = condition[:, column].min(), condition[:, column].max()
    print(f"{column}  {name:<14}{unit:<11}{low:6.2f} to {high:5.2f}")

# %% [markdown]
# The units are the simulator's. `close_gripper` and `lift` say for how many steps the gripper is
# to close, and whether it is to be raised. Of BAIR's own files there is no description; the names
# come from comments in its authors' later code, and the values fit them: columns 0 and 1 lie
# within about ±0.066, column 2 is 0, 1 or 3, column 3 is 0 or 1. In both, a decision holds for
# two frames. What was asked for is not quite what was reached:

# %%
reached = np.diff(clip.positions[:, :2], axis=0)
print("       asked for      reached   (cm, x and y)")
for t in range(8):
    asked, got = 100 * clip.actions[t, :2], 100 * reached[t]
    print(f"t={t}  {asked[0]:5.1f} {asked[1]:5.1f}   {got[0]:5.1f} {got[1]:5.1f}")

# %% [markdown]
# The action of row $t$ leads from frame $t$ to frame $t + 1$: to predict $x_t$, a model may use
# $c_{t-1}$. Giving it $c_t$ instead tells it where the arm *will have arrived*, which is worth
# some dB and is another task. The lab's default is $c_{t-1}$ (`condition_at="previous"`).

# %% [markdown]
# ## 2.5 Clip, window, batch
#
# A window is `n_past + n_future = 12` frames in a row. A clip of 30 frames holds 19 of them. The
# course trains and scores on the first alone; training on all of them costs nothing.

# %%
from labkit.data.dataset import ClipDataset

for windows in ("first", "all"):
    dataset = ClipDataset(root, "train", windows=windows)
    print(f"{windows:<6} {dataset.n_clips} clips, {len(dataset)} windows")

print("window 20 is (clip, start frame)", dataset.clip_of(20))

# %% [markdown]
# A batch is made in one call, not joined from items, and its frames stay `uint8` until they are
# on the device: a quarter of the bytes to read, keep and send. `Batch.to` turns them into floats
# in [0, 1].

# %%
batch = dataset.batch([0, 20])
on_device = batch.to("cpu")
for name, tensor in (
    ("frames", batch.frames),
    ("condition", batch.condition),
    ("frames after .to", on_device.frames),
):
    print(f"{name:<17}{tuple(tensor.shape)!s:<22}{tensor.dtype}")

# %% [markdown]
# ## 2.6 A pack: the same clips in one file
#
# Twelve PNGs and two tables an item are slow to open, and a data set held as floats does not fit
# in memory. So the first use of a data set copies it to a *pack*, one `uint8` file a split that
# is mapped into memory: reading a window is then a slice. It is made anew when the source has
# changed. Folders and pack must give the same items, in the same order:

# %%
import torch

folders = ClipDataset(root, "train", source="folders")
pack = ClipDataset(root, "train", source="pack")
same = [
    torch.equal(one, other)
    for index in range(len(pack))
    for one, other in zip(folders[index], pack[index], strict=True)
]
assert len(folders) == len(pack)
assert all(same)
print(f"{len(pack)} windows: frames and conditions are equal, bit for bit")

# %% [markdown]
# In training, a `DataLoader` asks for the windows of a whole batch at once:

# %%
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from labkit.data.dataset import identity

sampler = BatchSampler(RandomSampler(pack), batch_size=12, drop_last=True)
for batch in DataLoader(pack, batch_sampler=sampler, collate_fn=identity):
    print(tuple(batch.frames.shape), tuple(batch.condition.shape))
temporary.cleanup()

# %% [markdown]
# ## 2.7 The real thing
#
# In a terminal, with the course's `processed_data` in `data/`:
#
# ```
# labkit data check data/processed_data       is every clip whole?
# labkit data pack data/processed_data        make the pack now, not at the first training
# labkit train demo --data.root data/processed_data --out runs/bair
# ```
#
# Clips without `endeffector_positions.csv` have the 4 actions as their condition: add
# `--data.condition action`. Without any download, `labkit data simulate` makes 2,048 training
# clips of the simulated table, and `--layout course` writes them as folders.
#
# Next: [03_model](03_model.ipynb), what is done with a batch.
