"""Small clips for the tests of `labkit.data`, and a good data set that tests may break."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from bair_records import features, write_records
from converting import BAIR
from faulty_server import Getter, Server

from labkit.data import layout
from labkit.data.clip import Clip
from labkit.data.convert import convert
from labkit.data.pack import ensure_pack


@pytest.fixture
def make_clip() -> Callable[..., Clip]:
    """A function (number, ...) -> Clip of noise, the same for the same arguments."""
    return noise


def noise(
    number: int = 0,
    *,
    frames: int = 4,
    height: int = 6,
    width: int = 8,
    positions: bool = True,
    labels: bool = False,
) -> Clip:
    """A clip of noise, the same for the same arguments."""
    random = np.random.default_rng(number)
    shape = (frames, height, width)
    return Clip(
        frames=random.integers(0, 256, (frames, 3, height, width), np.uint8),
        actions=random.normal(size=(frames, 4)).astype(np.float32),
        positions=random.normal(size=(frames, 3)).astype(np.float32) if positions else None,
        labels=random.integers(0, 3, shape, np.uint8) if labels else None,
        name=f"noise {number}",
    )


@pytest.fixture(scope="session")
def _good_course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in the course layout with nothing wrong, and its pack."""
    root = tmp_path_factory.mktemp("good") / "course"
    random = np.random.default_rng(0)
    for split, count in {"train": 3, "test": 1}.items():
        clips = []
        for _ in range(count):
            # Smooth pictures are small files; the values are within BAIR's ranges.
            coarse = random.integers(0, 256, (12, 3, 8, 8), np.uint8)
            moves = random.uniform(-0.06, 0.06, (12, 2))
            steps = random.integers(0, 2, (12, 2))
            clips.append(
                Clip(
                    frames=coarse.repeat(8, axis=2).repeat(8, axis=3),
                    actions=np.concatenate([moves, steps], axis=1).astype(np.float32),
                    positions=random.uniform(-0.2, 0.2, (12, 3)).astype(np.float32),
                )
            )
        layout.write_split(root, split, clips)
    ensure_pack(root)
    return root


@pytest.fixture
def good_course(tmp_path: Path, _good_course: Path) -> Path:
    """A copy of a good data set and its pack: 3 clips in train, 1 in test, 12 frames of 64 x 64."""
    root = tmp_path / "here" / "course"
    shutil.copytree(_good_course, root)
    return root


@pytest.fixture
def tree_of() -> Callable[..., dict[str, str]]:
    """A function: a folder -> kind, rights, size, time of change and digest of all that is in it.

    `digests=False` leaves the digests out: it is quick, and a file that was written anew shows by
    its time of change.
    """

    def tree(root: Path, digests: bool = True) -> dict[str, str]:
        found = {}
        for folder, folders, names in os.walk(root):
            for path in (os.path.join(folder, name) for name in [*folders, *names]):
                state = os.lstat(path)
                known = f"{state.st_mode} "
                if not stat.S_ISDIR(state.st_mode):
                    known += f"{state.st_size} {state.st_mtime_ns}"
                if digests and stat.S_ISREG(state.st_mode) and os.access(path, os.R_OK):
                    known += hashlib.sha256(Path(path).read_bytes()).hexdigest()
                found[os.path.relpath(path, root)] = known
        return found

    return tree


# ---------------------------------------------------------------------- BAIR's records


@pytest.fixture(scope="session")
def bair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as BAIR's, of 11 clips with two cameras."""
    root = tmp_path_factory.mktemp("bair") / "softmotion30_44k"
    for name, numbers in BAIR.items():
        made = [features(number, ("aux1", "main")) for number in numbers]
        write_records(root / f"{name}.tfrecords", made)
    (root / "train" / "._traj_0_to_255.tfrecords").write_bytes(b"left by macOS")
    (root / "README.txt").write_text("about")
    return root


@pytest.fixture(scope="session")
def packed(bair: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of it without a break."""
    out = tmp_path_factory.mktemp("packed") / "out"
    convert(bair, out, workers=1)
    return out


@pytest.fixture(scope="session")
def folders(bair: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in the course layout."""
    out = tmp_path_factory.mktemp("folders") / "out"
    convert(bair, out, to="layout", workers=1)
    return out


# ------------------------------------------------------------------------ the server


@pytest.fixture
def server() -> Iterator[Server]:
    """A running server."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.stall = False
        running.shutdown()
        thread.join()


@pytest.fixture
def get(server: Server, tmp_path: Path) -> Getter:
    """`download` from the server into a folder."""
    return Getter(server, tmp_path / "data")
