"""The data that `benchmarks/loading.py` loads: made cheaply, yet as large as it says."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labkit.data import layout
from labkit.data.clip import Clip
from labkit.data.pack import write_pack
from labkit.data.simulator import simulate


def simulated_clips(count: int) -> list[Clip]:
    """Simulated clips of 30 frames, without the regions that real clips lack."""
    return [dataclasses.replace(clip, labels=None) for clip in simulate(0, range(count))]


def make_sizes(folder: Path, clips: Sequence[Clip], sizes: Sequence[int]) -> None:
    """For each size a folder `<size>` with that many clips twice: in the course's layout
    (`folders`) and as a pack (`pack`). The clips given are repeated; in the layout as hard links
    to the first copy, so the disk holds each picture once.
    """
    layout.write_split(folder / "distinct", "train", clips)
    distinct = layout.clip_folders(folder / "distinct", "train")
    for size in sizes:
        for number in range(size):
            start = layout.CLIPS_A_FOLDER * (number // layout.CLIPS_A_FOLDER)
            block = f"traj_{start}_to_{start + layout.CLIPS_A_FOLDER - 1}.tfrecords"
            target = folder / str(size) / "folders" / "train" / block / str(number - start)
            shutil.copytree(distinct[number % len(clips)], target, copy_function=_link)
        tiled = (clips[number % len(clips)] for number in range(size))
        write_pack(folder / str(size) / "pack", {"train": tiled}, "simulated, repeated")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def make_full_size(root: Path, clip: Clip, count: int) -> None:
    """A pack of `count` such clips whose files are as long as they should be but mostly holes:
    they read as zeros and take no disk. Its digests are those of the one clip it holds."""
    write_pack(root, {"train": [clip]}, "one simulated clip, then zeros")
    manifest_file = root / "manifest.json"
    manifest = json.loads(manifest_file.read_text(encoding="utf-8"))
    split = manifest["splits"]["train"]
    split["clips"] = count
    for entry in split["files"].values():
        file = root / "train" / entry["file"]
        entry["shape"] = [count, *entry["shape"][1:]]
        if file.suffix == ".bin":
            os.truncate(file, count * file.stat().st_size)
        elif file.suffix == ".npy":
            np.lib.format.open_memmap(file, "w+", np.float32, tuple(entry["shape"])).flush()
        else:
            file.write_text(json.dumps([f"{number}" for number in range(count)]), encoding="utf-8")
        entry["bytes"] = file.stat().st_size
    manifest_file.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
