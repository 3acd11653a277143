"""The exercise of notebook 02: the data set that reads one clip's folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from labkit.course.checks.exercise import SECONDS, Case, Student, check, close, in_short

CLIPS, FRAMES, WINDOW = 3, 14, 12


@check
def check_getitem(
    yours: Callable[[list[Path]], Any], *, seed: int | None = None, seconds: float = SECONDS
) -> None:
    """Checks a data set class: `yours(folders)` is made from the list of clip folders, and
    `yours(folders)[i]` returns

        frames     uint8 (12, 3, 64, 64), the pictures 0.png .. 11.png
        condition  float32 (12, 7), rows 0 .. 11 of actions.csv (4 columns) and of
                   endeffector_positions.csv (3 columns), side by side

    The clips have 14 frames. They are listed by the file system in random order, with either csv
    file first. Item i must read clip i alone, when it is asked for, and only its first 12 frames.

    Args:
        yours: the student's class.
        seed: of the cases; None is a new one each time.
        seconds: time limit of a call.
    Raises:
        CheckFailed: a case is not right, or the class is refused.
    """
    student = Student("__getitem__", yours, seed=seed, seconds=seconds)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        for tables_first in (("actions", "endeffector"), ("endeffector", "actions")):
            root = Path(temporary) / tables_first[0]
            _check_listing(student, root, tables_first)
        _check_lazy(student, Path(temporary) / "lazy")
    student.passes("frames in numeric order, tables by name, one clip read for each item")


def _check_listing(student: Student, root: Path, order: tuple[str, str]) -> None:
    folders, clips = _write(student, root)
    with listed_in_random_order(student.rng, order):
        dataset = student("making the data set", folders)
        if hasattr(dataset, "__len__") and len(dataset) != CLIPS:
            raise student.fail(f"len() is {len(dataset)}; expected {CLIPS}, one for each folder")
        for number in (1, 0, 2):
            # A list of folders as arguments would be copied with its data set: call by index.
            student_item = _Item(student, dataset)
            what = f"item {number}, with {order[0]}*.csv listed first"
            came = student_item(what, number)
            if not isinstance(came, tuple | list) or len(came) != 2:
                raise student.fail(
                    "the item is not a pair",
                    what,
                    expected="frames, condition",
                    came=in_short(came),
                )
            _judge(student, what, came, clips[number])


class _Item:
    """Calls a data set's item, guarded as the student's function is."""

    def __init__(self, student: Student, dataset: Any) -> None:
        self.student, self.dataset = student, dataset

    def __call__(self, case: str, number: int) -> Any:
        function = self.student.function
        self.student.function = lambda index: self.dataset[index]
        try:
            return self.student(case, number)
        finally:
            self.student.function = function


def _judge(student: Student, what: str, came: Any, clip: dict[str, np.ndarray]) -> None:
    frames, actions, positions = clip["frames"], clip["actions"], clip["positions"]
    by_text = [int(name) for name in sorted(str(number) for number in range(FRAMES))]
    first = frames[:WINDOW]
    scaled = first.astype(np.float64) / 255
    wrong_frames = [
        ("frames are ordered by text: 10.png comes before 2.png", frames[by_text][:WINDOW]),
        (
            "frames are ordered by text: 10.png comes before 2.png",
            frames[by_text][:WINDOW].astype(np.float64) / 255,
        ),
        ("keep the bytes: uint8, 0 .. 255, not floats in [0, 1]", scaled),
        ("height and width are exchanged", first.transpose(0, 1, 3, 2)),
        ("the channels come second: (12, 3, 64, 64)", first.transpose(0, 2, 3, 1)),
        ("the colours are in the order BGR", first[:, ::-1]),
        ("the first 12 frames, 0 .. 11, are asked for", frames),
    ]
    listed = "frames are in the order in which the folder lists them: sort by number"
    signs = [(listed, lambda value: _same_frames(value, frames))]
    student.judge(Case(f"{what}, frames", (), first, wrong_frames, signs), came[0])
    kind = getattr(came[0], "dtype", None)
    if kind not in (torch.uint8, np.uint8):
        hint = "keep the bytes as they are in the file"
        raise student.fail(f"frames are of type {kind}; expected uint8", what, hint=hint)
    both = np.concatenate([actions, positions], axis=1)
    header = "the csv files have no header: the first row belongs to frame 0"
    wrong_rows = [
        (
            "the tables are exchanged: tell actions.csv and endeffector_positions.csv by name",
            np.concatenate([positions, actions], axis=1)[:WINDOW],
        ),
        (header, both[1 : WINDOW + 1]),
        ("the first 12 rows are asked for", both),
        ("the positions are missing", actions[:WINDOW]),
    ]
    case = Case(f"{what}, condition", (), both[:WINDOW], wrong_rows)
    student.judge(case, came[1], atol=1e-5)
    kind = getattr(came[1], "dtype", None)
    if kind not in (torch.float32, np.float32):
        raise student.fail(f"the condition is of type {kind}; expected float32", what)


def _same_frames(value: Any, frames: np.ndarray) -> bool:
    """Whether these are frames of the clip, in another order."""
    array = np.asarray(value, np.float64)
    array = array * 255 if array.max() <= 1 else array
    known = {frame.tobytes() for frame in frames}
    return all(frame.round().astype(np.uint8).tobytes() in known for frame in array)


def _check_lazy(student: Student, root: Path) -> None:
    """Item 1 must not need any other clip, nor what was on the disk when the data set was made."""
    folders, clips = _write(student, root)
    dataset = student("making the data set", folders)
    for number in (0, 2):
        shutil.rmtree(folders[number])
    for number in (WINDOW, WINDOW + 1):
        (folders[1] / f"{number}.png").write_bytes(b"not a picture")
    shown = clips[1]["frames"][0]
    fresh = np.ascontiguousarray(255 - shown)
    _save(folders[1] / "0.png", fresh)
    hint = "read files in __getitem__, those of clip i alone and only the first 12 pictures"
    with opened_files() as opened:
        try:
            came = _Item(student, dataset)("item 1, with the other clips deleted", 1)
        except Exception as error:
            what = "item 1 needs files other than the first 12 pictures and the tables of clip 1"
            raise student.fail(what, came=str(error).splitlines()[0], hint=hint) from None
    if close(came[0][0], shown, 0, 0.01) and not close(came[0][0], fresh, 0, 0.01):
        what = "everything is read when the data set is made"
        raise student.fail(what, "a picture changed afterwards", hint=hint)
    others = {name for name in opened if str(root) in name} - {
        str(folders[1] / f"{number}.png") for number in range(WINDOW)
    }
    others = {name for name in others if name.endswith((".png", ".csv"))}
    foreign = sorted(name for name in others if not name.startswith(str(folders[1]) + os.sep))
    pictures = sorted(name for name in others if name.endswith(".png"))
    if foreign or pictures:
        names = [Path(name).relative_to(root).as_posix() for name in (foreign or pictures)[:3]]
        raise student.fail("item 1 opens more than it needs", came=", ".join(names), hint=hint)


# ------------------------------------------------------------------------- clips on the disk


def _write(student: Student, root: Path) -> tuple[list[Path], list[dict[str, np.ndarray]]]:
    folders, clips = [], []
    for number in range(CLIPS):
        folder = root / "traj_512_to_767.tfrecords" / str(number)
        folder.mkdir(parents=True)
        small = student.rng.integers(0, 256, (FRAMES, 3, 16, 16), np.uint8)
        clip = {
            "frames": small.repeat(4, axis=2).repeat(4, axis=3),
            "actions": student.rng.normal(size=(FRAMES, 4)).round(4),
            "positions": student.rng.normal(size=(FRAMES, 3)).round(4),
        }
        for t in student.rng.permutation(FRAMES):
            _save(folder / f"{t}.png", clip["frames"][t])
        for name, key in (("actions", "actions"), ("endeffector_positions", "positions")):
            np.savetxt(folder / f"{name}.csv", clip[key], delimiter=",", fmt="%.4f")
        folders.append(folder)
        clips.append(clip)
    return folders, clips


def _save(file: Path, frame: np.ndarray) -> None:
    Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0))).save(file)


@contextlib.contextmanager
def listed_in_random_order(rng: np.random.Generator, tables: tuple[str, ...]) -> Iterator[None]:
    """Makes every listing of a folder random, as file systems may, with the csv files in this
    order among themselves."""
    listdir, scandir = os.listdir, os.scandir

    def mixed(names: list[Any], name_of: Callable[[Any], str]) -> list[Any]:
        names = sorted(names, key=name_of)
        names = [names[place] for place in rng.permutation(len(names))]
        places = [place for place, one in enumerate(names) if name_of(one).endswith(".csv")]
        found = sorted(
            (names[place] for place in places),
            key=lambda one: next(
                (k for k, start in enumerate(tables) if name_of(one).startswith(start)), 9
            ),
        )
        for place, one in zip(places, found, strict=True):
            names[place] = one
        return names

    class Entries:
        """What os.scandir returns: an iterator that is a context as well."""

        def __init__(self, path: Any) -> None:
            with scandir(path) as entries:
                self.entries = iter(mixed(list(entries), lambda entry: os.fsdecode(entry.name)))

        def __iter__(self) -> Entries:
            return self

        def __next__(self) -> os.DirEntry[Any]:
            return next(self.entries)

        def __enter__(self) -> Entries:
            return self

        def __exit__(self, *error: object) -> None:
            self.close()

        def close(self) -> None:
            """Nothing is open any more."""

    os.listdir = lambda path=".": mixed(listdir(path), os.fsdecode)
    os.scandir = lambda path=".": Entries(path)
    try:
        yield
    finally:
        os.listdir, os.scandir = listdir, scandir


_opened: list[str] | None = None
_hooked = False


@contextlib.contextmanager
def opened_files() -> Iterator[list[str]]:
    """The names of the files that Python opens within the block."""
    global _opened, _hooked
    if not _hooked:
        import sys

        # An audit hook cannot be taken away again; it does nothing while nobody counts.
        sys.addaudithook(_note_opening)
        _hooked = True
    _opened = []
    try:
        yield _opened
    finally:
        _opened = None


def _note_opening(event: str, arguments: tuple[Any, ...]) -> None:
    if (
        event == "open"
        and _opened is not None
        and isinstance(arguments[0], str | bytes | os.PathLike)
    ):
        _opened.append(os.fsdecode(arguments[0]))
