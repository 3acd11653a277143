# %% [markdown]
# # 2 · The data: from a clip's folder to a batch
#
# BAIR robot pushing has 43,264 training clips and 256 test clips. Each has 30 frames of 64 x 64
# pixels, in which a robot arm pushes objects. This page follows a clip from its folder to the
# tensors that the model of [03_model](03_model.ipynb) gets. Nothing has to be downloaded: the
# package simulates a robot table, and writes clips of the same form.
#
# **After this page you can**
#
# 1. say what a clip consists of, and what each column of the condition means;
# 2. write a data set class that reads exactly the files it needs;
# 3. show three mistakes of data loaders by a number: frames ordered by text, exchanged tables, and
#    a loading time that grows with the square of the data;
# 4. say which condition leads to which frame;
# 5. explain what a memory-mapped pack is for.
#
# **You need** NumPy arrays, PyTorch tensors, and how a Python class defines `__getitem__`.
#
# **Time**: about 40 minutes to read and to solve the exercise; about 20 seconds to run.

# %%
import tempfile
from pathlib import Path

import numpy as np
import torch

import labkit
from labkit.course.checks import CheckFailed, check_getitem
from labkit.data import layout
from labkit.data.simulator import simulate_clip

labkit.lab_setup()

# %% [markdown]
# ## 2.1 The files of a clip
#
# The course hands out one folder for each clip. It holds one picture for each frame, and two tables
# without a header. Here are six simulated clips, written in this layout to a temporary folder.

# %%
temporary = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
root = Path(temporary.name) / "processed_data"
trajectories = root / "train" / "traj_512_to_767.tfrecords"
for number in range(6):
    layout.write_clip(trajectories / str(number), simulate_clip(seed=1, index=number + 1))

folders = layout.clip_folders(root, "train")
for folder in folders[:2]:
    tables = sorted(file.name for file in folder.iterdir() if file.suffix != ".png")
    pictures = len(list(folder.glob("*.png")))
    print(folder.relative_to(root.parent).as_posix(), f"{pictures} pictures,", ", ".join(tables))
    assert pictures == 30

# %% [markdown]
# The names end in `.tfrecords` because the clips come from such files. But they are folders.
# `labels.npz` is written by the simulator alone. It says for each pixel whether it shows the arm,
# an object that moves, or the rest. BAIR's clips have no such file, and no model reads it.
#
# Move the slider. The ring is the position of the end effector, the arrow is the action: the move
# that the robot is asked to make next, drawn three times as long.

# %%
from labkit.course.pictures import with_actions
from labkit.views import scrub

clip = layout.read_clip(folders[1])
scrub({"clip with actions": with_actions(clip)}, scale=1)

# %% [markdown]
# The arm looks the same in every clip. The objects are hard to predict, and they are only a few
# percent of the pixels:

# %%
from labkit.data.clip import ARM, MOVED

labels = np.stack([layout.read_clip(folder).labels for folder in folders])
share = {"arm": (labels == ARM).mean(), "objects that move": (labels == MOVED).mean()}
for name, part in share.items():
    print(f"{name:<18} {100 * part:4.1f} % of the pixels")
assert sum(share.values()) < 0.15

# %% [markdown]
# Most of a frame never changes.
#
# ## 2.2 The condition: seven columns
#
# $c_t$ is what the model knows of the robot at time $t$: the action (4 numbers) and the position of
# the end effector (3 numbers).

# %%
from labkit.data.clip import ACTION_COLUMNS, POSITION_COLUMNS

units = ["m per frame", "m per frame", "decisions", "0 or 1", "m", "m", "m"]
all_clips = [layout.read_clip(folder) for folder in folders]
rows = np.concatenate([np.concatenate([one.actions, one.positions], axis=1) for one in all_clips])
for column, (name, unit) in enumerate(zip(ACTION_COLUMNS + POSITION_COLUMNS, units, strict=True)):
    low, high = rows[:, column].min(), rows[:, column].max()
    print(f"{column}  {name:<14}{unit:<12}{low:6.2f} to {high:5.2f}")
assert rows.shape == (6 * 30, 7)

# %% [markdown]
# The units are the simulator's. The robot decides on a new action at every second frame, so each
# action row occurs twice. `close_gripper` is the number of such decisions for which the gripper
# closes. `lift` says whether it is raised.
#
# The action is what the robot is *asked* to do. The move that it makes is a little different:

# %%
reached = np.diff(clip.positions[:, :2], axis=0)
print("      asked for (x, y)    reached (x, y), in cm")
for t in range(6):
    asked, got = 100 * clip.actions[t, :2], 100 * reached[t]
    print(f"t={t}   {asked[0]:5.1f}  {asked[1]:5.1f}      {got[0]:5.1f}  {got[1]:5.1f}")

assert all(np.array_equal(one.actions[0::2], one.actions[1::2]) for one in all_clips)
error = np.abs(clip.actions[:-1, :2] - reached).mean()
assert 0 < error < np.abs(reached).mean()

# %% [markdown]
# Row $t$ of the actions leads from frame $t$ to frame $t + 1$. So the model may use $c_{t-1}$ to
# predict $x_t$. If it gets $c_t$ instead, it knows the position that the arm *will have reached* in
# $x_t$. This is another task, with a higher PSNR. The lab's default is $c_{t-1}$
# (`condition_at="previous"`).
#
# | data | what is known of it |
# | --- | --- |
# | columns 0 and 1 | BAIR: within about ±0.066, unit not stated. Simulated: metres per frame |
# | column 2 | BAIR: 0, 1 or 3. Simulated: the same values |
# | column 3 | BAIR: 0 or 1. Simulated: the same |
# | names of the columns | BAIR's files have none; they come from its authors' later code |
# | a decision | two frames in both |
# | positions | BAIR: 3 numbers. Simulated: metres |

# %%
assert np.abs(rows[:, :2]).max() <= 0.0661
print("values of column 2:", sorted(set(rows[:, 2].astype(int).tolist())))
print("values of column 3:", sorted(set(rows[:, 3].astype(int).tolist())))
assert set(rows[:, 2]) <= {0, 1, 3}
assert set(rows[:, 3]) <= {0, 1}

# %% [markdown]
# ## 2.3 A data set class
#
# PyTorch asks a data set for its length and for item $i$. Here an item is the start of one clip:
# the first 12 frames (2 context frames and 10 to predict), with their conditions.
#
# **Exercise 1.** Write `__getitem__`. Find each frame by its number, and each table by its name.
# Read the files of clip $i$ alone, when the item is asked for, and only the first 12 pictures. The
# frames keep their type, `uint8`.

# %%
from PIL import Image
from torch.utils.data import Dataset


# %% nbgrader={"grade": false, "grade_id": "getitem", "locked": false, "schema_version": 3, "solution": true, "task": false}
class FolderClips(Dataset):
    def __init__(self, folders):
        self.folders = folders

    def __len__(self):
        return len(self.folders)

    def __getitem__(self, i):
        """frames uint8 (12, 3, 64, 64) and condition float32 (12, 7) of clip i."""
        ### BEGIN SOLUTION
        folder = self.folders[i]
        pictures = [np.asarray(Image.open(folder / f"{t}.png")) for t in range(12)]
        frames = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        names = ("actions.csv", "endeffector_positions.csv")
        tables = [np.loadtxt(folder / name, delimiter=",", dtype=np.float32) for name in names]
        return frames, torch.from_numpy(np.concatenate(tables, axis=1)[:12])
        ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-getitem", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
check_getitem(FolderClips)

# %% [markdown]
# The package's own class reads the same items:

# %%
from labkit.data.dataset import ClipDataset

package = ClipDataset(root, "train", windows="first", source="folders")
yours = FolderClips(folders)
for i in range(len(yours)):
    for one, other in zip(yours[i], package[i], strict=True):
        assert torch.equal(one, other)
print(f"{len(yours)} clips: frames and conditions are equal, bit for bit")

# %% [markdown]
# ## 2.4 Mistake: frames in the order of the listing, or of their text
#
# A folder has no order. `os.walk` and `os.listdir` give the names as the file system keeps them, so
# "the first 12" of such a list are 12 arbitrary frames. On another computer they can be other
# frames. Sorting the names is not enough, because text is sorted letter by letter:

# %%
names = [file.name for file in folders[1].glob("*.png")]
by_number = sorted(int(name.removesuffix(".png")) for name in names)
by_text = [int(name.removesuffix(".png")) for name in sorted(names)]

print("by number", by_number[:12])
print("by text  ", by_text[:12])
assert by_text[:3] == [0, 1, 10]

# %% [markdown]
# `10.png` comes before `2.png`. Each picture below has the number of its file in its corner. The
# line above the pictures is the place in the list.

# %%
from IPython.display import Image as Shown

from labkit.course.pictures import numbered
from labkit.views import filmstrip, png_bytes

orders = {"by number": by_number[:8], "by text": by_text[:8]}
strips = {name: numbered(clip.frames[order], order) for name, order in orders.items()}
Shown(png_bytes(filmstrip(strips, scale=1)))

# %% [markdown]
# Nothing crashes. But the frames jump, and the actions no longer belong to the pictures. The jumps
# can be measured: how many grey levels a pixel changes, on average, from one frame to the next.

# %%
import matplotlib.pyplot as plt

plt.figure(figsize=(6, 3))
change = {}
for name, order in (("by number", by_number[:12]), ("by text", by_text[:12])):
    ordered = np.stack([one.frames[order] for one in all_clips]).astype(float)  # (6, 12, 3, 64, 64)
    change[name] = np.abs(np.diff(ordered, axis=1)).mean(axis=(0, 2, 3, 4))
    plt.plot(range(1, 12), change[name], "o-", label=name)
plt.xlabel("place in the list")
plt.ylabel("change from the frame before,\nin grey levels")
plt.ylim(bottom=0)
plt.legend()
plt.show()

# %%
for name, values in change.items():
    place = values.argmax()
    print(f"{name:<10} largest change {values.max():4.1f}, from place {place} to {place + 1}")
assert change["by text"].max() > 1.3 * change["by number"].max()
assert change["by text"].argmax() == 1  # from frame 1 to frame 10

# %% [markdown]
# The order by text has a jump where frame 10 follows frame 1. The check of exercise 1 finds the
# mistake, too:


# %%
class ByText(FolderClips):
    def __getitem__(self, i):
        first = sorted(self.folders[i].glob("*.png"))[:12]
        pictures = np.stack([np.asarray(Image.open(file)) for file in first])
        return torch.from_numpy(pictures).permute(0, 3, 1, 2), super().__getitem__(i)[1]


try:
    check_getitem(ByText, seed=1)
    raise AssertionError("the check must fail")
except CheckFailed as failure:
    print(failure.hint)

# %% [markdown]
# ## 2.5 Mistake: tables recognised by the order of the listing
#
# The two tables are also just files in a folder. Code that takes the first csv file for the actions
# works on one computer and fails on another. We list the folder in both orders:

# %%
from labkit.course.checks.data import listed_in_random_order


class TablesAsListed(FolderClips):
    def __getitem__(self, i):
        tables = [file for file in self.folders[i].iterdir() if file.suffix == ".csv"]
        rows = [np.loadtxt(file, delimiter=",", dtype=np.float32) for file in tables]
        return super().__getitem__(i)[0], torch.from_numpy(np.concatenate(rows, axis=1)[:12])


row = {}
for first, second in (("actions", "endeffector"), ("endeffector", "actions")):
    with listed_in_random_order(np.random.default_rng(0), (first, second)):
        row[first] = TablesAsListed(folders)[1][1][0]
    print(f"{first:<12}listed first:", " ".join(f"{number:6.3f}" for number in row[first]))

# %% [markdown]
# For the same clip and the same frame there are two conditions. In the second row the position
# stands where the action belongs. The shape is right, so nothing crashes here either.

# %%
assert not torch.equal(row["actions"], row["endeffector"])
assert torch.equal(row["endeffector"].roll(4), row["actions"])
try:
    check_getitem(TablesAsListed, seed=1)
    raise AssertionError("the check must fail")
except CheckFailed as failure:
    print(failure.hint)

# %% [markdown]
# `labkit.data.layout` finds tables by name, and compares the number of their rows with the number
# of frames. If something does not fit, it raises an error that names the file:

# %%
from labkit.errors import DataError

(folders[0] / "7.png").unlink()
try:
    layout.read_clip(folders[0])
    raise AssertionError("the clip is not whole")
except DataError as error:
    print(f"{error.file.name}: {error.what}")

layout.write_clip(folders[0], simulate_clip(seed=1, index=1))  # whole again

# %% [markdown]
# `labkit data check ROOT` does this for a whole data set, before a long training.
#
# ## 2.6 Mistake: all frames are joined one by one
#
# Some data set classes start with an empty tensor and join one frame after the other to it. For
# every new frame, all frames before it are copied once more. Twice as many clips take four times as
# long. We count the bytes that are written, and measure the time:

# %%
import time


def join_frame_by_frame(clips):
    """All frames as floats in one tensor, and how many bytes were written for it."""
    frames, written = torch.empty(0), 0
    for clip in clips:
        for frame in clip:
            frames = torch.cat([frames, frame[None].float() / 255])
            written += frames.numel() * frames.element_size()
    return frames, written


# %% [markdown]
# The other way is a *pack*: all clips in one `uint8` file that is mapped into memory. A window of
# frames is then a slice of the file, and only this slice is read. `ClipDataset` writes the pack
# when a data set is used for the first time.

# %%
pack = ClipDataset(root, "train", windows="first", source="pack")
counts = (5, 10, 20, 40)
seconds = {"joined": [], "pack": []}
written = {"joined": [], "pack": []}
for count in counts:
    numbers = [n % len(pack) for n in range(count)]  # the six clips again and again
    clips = [pack[n][0] for n in numbers]
    start = time.perf_counter()
    written["joined"].append(join_frame_by_frame(clips)[1])
    middle = time.perf_counter()
    written["pack"].append(pack.batch(numbers).frames.numel())
    seconds["joined"].append(middle - start)
    seconds["pack"].append(time.perf_counter() - middle)

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
panels = (axes[0], written, "bytes written"), (axes[1], seconds, "time, s")
for axis, quantity, label in panels:
    for name, values in quantity.items():
        axis.loglog(counts, values, "o-", label=name)
    axis.set_xlabel("clips")
    axis.set_ylabel(label)
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.minorticks_off()
axes[0].legend()
plt.show()

# %% [markdown]
# Joining is the steeper line: it grows with the square of the number of clips.

# %%
print("clips  joined     pack")
for count, joined, packed in zip(counts, *written.values(), strict=True):
    print(f"{count:5}  {joined / 1e6:5,.0f} MB  {packed / 1e6:5.1f} MB")
assert written["joined"][-1] / written["joined"][0] > 60  # 8 times the clips, about 8 * 8
assert written["pack"][-1] / written["pack"][0] == 8
assert written["pack"][0] == 5 * 12 * 3 * 64 * 64  # one byte a value

# %% [markdown]
# By the same formula, the 43,264 training clips of BAIR need:

# %%
clips, bytes_a_frame = 43_264, 3 * 64 * 64
frames = 12 * clips
print(
    f"joined: {4 * bytes_a_frame * frames * (frames + 1) / 2 / 1e15:,.1f} PB written, "
    f"{4 * bytes_a_frame * frames / 1e9:.0f} GB in memory"
)
print(
    f"pack:   {bytes_a_frame * frames / 1e9:.0f} GB read once in an epoch, nothing stays in memory"
)
assert written["joined"][0] == 4 * bytes_a_frame * 60 * 61 // 2  # the same formula for 5 clips

# %% [markdown]
# The frames stay `uint8` as long as possible. As floats they would take four times the memory, and
# four times the transfer to a GPU.
#
# Folders and pack give the same items in the same order:

# %%
for i in range(len(pack)):
    for one, other in zip(pack[i], package[i], strict=True):
        assert torch.equal(one, other)
print(f"{len(pack)} items: equal, bit for bit")

# %% [markdown]
# ## 2.7 Clip, window, batch
#
# A window is `n_past + n_future = 12` frames in a row. A clip of 30 frames contains 19 windows. The
# course trains and evaluates on the first window only. Training on all windows needs no more
# memory.

# %%
for windows in ("first", "all"):
    dataset = ClipDataset(root, "train", windows=windows)
    print(f"{windows:<6} {dataset.n_clips} clips, {len(dataset)} windows")

assert len(dataset) == 6 * (30 - 12 + 1)
number, start = dataset.clip_of(20)
print(f"window 20 begins at frame {start} of clip {number}")
assert (number, start) == (1, 1)

# %% [markdown]
# A batch is read by one call. `Batch.to` moves it to a device and turns its frames into floats in
# [0, 1].

# %%
batch = dataset.batch([0, 20])
on_device = batch.to("cpu")
for name, tensor in (
    ("frames", batch.frames),
    ("condition", batch.condition),
    ("frames after .to", on_device.frames),
):
    print(f"{name:<18}{tuple(tensor.shape)!s:<22}{tensor.dtype}")
assert torch.equal(on_device.frames, batch.frames.float() / 255)

# %% [markdown]
# In training, a `DataLoader` asks for the windows of a whole batch at once. Each epoch has a new
# order. `drop_last` leaves out the last batch if it is smaller than the others.

# %%
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from labkit.data.dataset import identity

sampler = BatchSampler(RandomSampler(dataset), batch_size=12, drop_last=True)
batches = list(DataLoader(dataset, batch_sampler=sampler, collate_fn=identity))
frames, condition = batches[0].frames, batches[0].condition
print(f"{len(batches)} batches: frames {tuple(frames.shape)}, condition {tuple(condition.shape)}")
assert len(batches) == len(dataset) // 12

# %% [markdown]
# For a *test* set do not drop the last batch: its clips count as much as the others (see
# [05_results](05_results.ipynb)).

# %%
temporary.cleanup()

# %% [markdown]
# ## 2.8 The real data
#
# | | BAIR, the course's copy | simulated table |
# | --- | --- | --- |
# | clips | 43,264 for training, 256 for the test | as many as you ask for |
# | frames of a clip | 30; the coursework scores the first 12 | 30 |
# | picture | 64 x 64, RGB, camera `aux1` | 64 x 64, RGB |
# | test split | `traj_0_to_255` | the same folder names |
# | validation split | `traj_256_to_511` | the same |
# | clip folders | counted from 0 | counted from 0 |
# | labels of regions | none | `labels.npz` |
# | size on the disk | about 30 GB as records | 2,048 clips: 1.0 GB as a pack |
#
# In a terminal, with the course's `processed_data` in `data/`:
#
# ```
# labkit data check data/processed_data       reads every clip once and says what is broken
# labkit data pack data/processed_data        makes the pack now, not at the first training
# labkit train demo --data.root data/processed_data --out runs/bair
# ```
#
# Clips without `endeffector_positions.csv` have the 4 actions as their condition: add
# `--data.condition action`.
#
# ## Summary
#
# 1. A clip is 30 pictures and two tables; the condition $c_t$ is action and position, 7 columns.
# 2. $c_{t-1}$ leads from $x_{t-1}$ to $x_t$.
# 3. Frames are ordered by number, tables are found by name; a folder itself has no order.
# 4. An item's files are read when the item is asked for. The time of joining frame by frame grows
#    with the square of the data.
# 5. A pack is one memory-mapped `uint8` file: a window is a slice of it.
#
# ## What can go wrong
#
# - Frames in the order of their names as text, or of the listing. See 2.4.
# - Exchanged tables. See 2.5.
# - All frames are kept in memory as floats. See 2.6.
# - $c_t$ is given where $c_{t-1}$ belongs. The PSNR is then too good. See 2.2.
# - Frames are divided by 255 twice: `Batch.to` does it already.
#
# ## More exercises
#
# 2. Let `__getitem__` return a random window of 12 frames. Where must the random number come from,
#    so that several workers of a `DataLoader` do not draw the same?
# 3. Repeat the last context frame ten times. What PSNR does that give on the simulated clips?
#    (`labkit.evaluation.psnr`)
# 4. Fit a line: the reached move as a function of the asked one. Do it separately for raised and
#    lowered grippers.
#
# ## Links
#
# - F. Ebert, C. Finn, A. Lee, S. Levine, *Self-Supervised Visual Planning with Temporal Skip
#   Connections*, 2017 (the data): <https://arxiv.org/abs/1710.05268>
# - PyTorch, *Datasets & DataLoaders*:
#   <https://pytorch.org/tutorials/beginner/basics/data_tutorial.html>
# - In the package: `labkit/data/layout/` (folders), `labkit/data/pack/` (packs),
#   `labkit/data/dataset.py` (windows and batches), `labkit/data/simulator/` (the simulated table),
#   `data/README.md` (all layouts, and how to get the real clips).
#
# Next: [03_model](03_model.ipynb), what the model does with a batch.
