"""Finding the splits and the clips of a data set in the course's layout (see the package)."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from shlex import quote

from labkit.data.clip import SPLITS
from labkit.data.layout import archives
from labkit.data.layout.plain_files import unreadable
from labkit.errors import DataError

FRAME = re.compile(r"(.*?[^0-9])?([0-9]+)\.(?:png|jpe?g)", re.IGNORECASE)
"""name of a frame's picture: what stands before its number, and the number"""

VIDEOS = {".mp4", ".avi", ".webm", ".gif", ".mov", ".mkv", ".m4v", ".mpg", ".mpeg"}
"""endings of the videos that `labkit data convert` reads"""
CONVERTED = VIDEOS | {".npz", ".npy", ".hdf5", ".h5", ".hdf", ".tar", ".tfrecord", ".tfrecords"}
"""endings of all files that `labkit data convert` reads"""

_ALIASES = {
    "training": "train",
    "val": "validate",
    "valid": "validate",
    "validation": "validate",
    "testing": "test",
    **{name: name for name in SPLITS},
}
_LEFTOVERS = {
    "__macosx",
    "thumbs.db",
    "desktop.ini",
    "@eadir",
    "$recycle.bin",
    "system volume information",
    "lost+found",
}
"""what macOS, Windows and disk stations leave in folders, in lower case"""
_WITHIN_SPLIT = re.compile(r"traj_|\d+$")
_LABELS = re.compile(r"(?:.*_)?labels?$")
"""name of a folder of pictures that are labels of other pictures"""
_NESTED = 3
"""folders around everything that are opened in search of the splits"""
_DEPTH = 3
"""folders between a split and its clips that are opened in search of clips"""


def canonical_split(name: str) -> str:
    """The usual name of a split: `val`, `valid` and `validation` are `validate`."""
    return _ALIASES.get(name.lower(), name)


def missing_split(split: str, there_are: Iterable[str], root: Path | str) -> DataError:
    """The error for a split that a data set does not have."""
    there = list(there_are)
    hint = f"there are: {', '.join(there) or 'none'}"
    if split == "test" and (others := [name for name in ("validate", "train") if name in there]):
        hint += f"; to use another one: --split {others[0]}"
    if split == "train":
        hint += "; put the clips to train on into a folder train"
    if split == "validate":
        hint += (
            "; move some recordings into a folder validate, or, where there is one recording, "
            "train with --data.validation-split train: the weights are then chosen by clips that "
            "they have learnt"
        )
    return DataError(f"no split {split!r}", file=root, hint=hint)


def resolve(root: Path | str, progress: bool = False) -> Path:
    """The folder of a data set: `root` itself, or where the zip that was given is unpacked.

    A zip is `root`, or the only thing in it. Unpacking happens once (see `archives.unpacked`);
    for a folder this costs one look into it.

    Raises:
        DataError: the zip is damaged or not to be trusted, or `root` holds several zips alone.
    """
    root = Path(root)
    if os.path.isfile(root) and archives.is_zip(root):  # unlike Path's, these never raise
        return _unwrapped(archives.unpacked(root, progress=progress))
    if os.path.isdir(root):
        entries = scan(root)
        zips = sorted(entry.name for entry in entries if entry.name.lower().endswith(".zip"))
        if zips and not any(is_folder(entry) for entry in entries):
            if len(zips) > 1:
                hint = (
                    "they may be parts of one data set, as Google Drive makes them: unpack all of "
                    "them into one folder, and give that folder"
                )
                raise DataError(f"holds only zips: {', '.join(zips)}", file=root, hint=hint)
            return resolve(root / zips[0], progress=progress)
    return root


@contextlib.contextmanager
def called(given: Path | str, root: Path) -> Iterator[None]:
    """Errors of the block, on files of the data set at `root`, which `given` was resolved to, as
    the user knows them: by their place in the zip, and not in the hidden folder."""
    try:
        yield
    except DataError as fault:
        raise as_given(fault, given, root) from None


def as_given(fault: DataError, given: Path | str, root: Path) -> DataError:
    """One error, as `called` says it."""
    if root == Path(given) or fault.file is None or not Path(fault.file).is_relative_to(root):
        return fault
    file = Path(given) / Path(fault.file).relative_to(root)
    return type(fault)(fault.what, file=file, row=fault.row, hint=fault.hint)


def _unwrapped(folder: Path) -> Path:
    """A pack is often zipped together with its folder: then that folder."""
    inner = subfolders(folder)
    return inner[0] if len(inner) == 1 and (inner[0] / "manifest.json").is_file() else folder


def splits(root: Path | str) -> list[str]:
    """Names of the splits under `root`: train, validate, test first, then any others by name.

    Raises:
        DataError: `root` is no folder (or zip of one), or holds no clips.
    """
    return list(split_folders(root))


def clip_folders(root: Path | str, split: str) -> list[Path]:
    """The clip folders of a split in numeric order: by trajectory number, then by n.

    Raises:
        DataError: there is no such split (the message lists those there are), or it is empty.
    """
    found = split_folders(root)
    split = canonical_split(split)
    if split not in found:
        for folder in empty_splits(root):
            if canonical_split(folder.name) == split:
                hint = f"extract it again; there are: {', '.join(found)}"
                raise DataError("holds no clips", file=folder, hint=hint)
        raise missing_split(split, found, root)
    return list(_find_clips(found[split]))


def empty_splits(root: Path | str) -> list[Path]:
    """Folders with the name of a split, train, validate or test, that hold no clip.

    Raises:
        DataError: as `splits`.
    """
    found = split_folders(root)
    around = {folder.parent for folder in found.values()}
    named = (inner for folder in sorted(around) for inner in subfolders(folder))
    usual = (inner for inner in named if canonical_split(inner.name) in SPLITS)
    return [inner for inner in usual if inner not in found.values()]


def split_folders(root: Path | str) -> dict[str, Path]:
    """The folder of each split, by its usual name, in the usual order.

    Raises:
        DataError: as `splits`.
    """
    around = _around_splits(Path(root))
    found: dict[str, Path] = {}
    for folder in subfolders(around):
        _refuse_label_pictures(folder)
        if next(_find_clips(folder), None) is None:
            continue
        name = canonical_split(folder.name)
        if name in found:
            what = f"has both {found[name].name} and {folder.name}, which mean the same split"
            raise DataError(what, file=root, hint="rename or remove one of them")
        found[name] = folder
    if not found:
        raise _no_clips(Path(root), around)
    usual = [name for name in SPLITS if name in found]
    return {name: found[name] for name in [*usual, *sorted(found.keys() - set(usual))]}


def _refuse_label_pictures(split: Path) -> None:
    """Raises DataError for a later edition of the course, whose condition is pictures: one video
    in train/train_img, and train/train_label beside it."""
    names = [folder.name for folder in subfolders(split)]
    for name in names:
        if _LABELS.match(name.lower()) and f"{name.lower().removesuffix('label')}img" in names:
            what = f"holds {name}: pictures that are labels of other pictures"
            hint = "labkit reads numbers as condition: actions.csv and endeffector_positions.csv"
            raise DataError(what, file=split, hint=hint)


def _around_splits(root: Path) -> Path:
    """The folder that holds the splits: `root`, or one that an archive has put inside it."""
    inner = resolve(root)
    if not os.path.isdir(inner):
        raise _no_folder(root)
    for _ in range(_NESTED):
        folders = {folder.name: folder for folder in subfolders(inner)}
        _refuse_split(root, inner, list(folders))
        if "processed_data" in folders:
            inner = folders["processed_data"]
        elif len(folders) == 1 and _holds_splits(*folders.values()):
            (inner,) = folders.values()
        else:
            break
    return inner


def _holds_splits(folder: Path, depth: int = _NESTED - 1) -> bool:
    """Whether a folder, which is not called as a split is, holds some that are."""
    inside = subfolders(folder)
    if canonical_split(folder.name) in SPLITS:
        return False
    if {canonical_split(inner.name) for inner in inside} & {*SPLITS, "processed_data"}:
        return True
    return depth > 0 and len(inside) == 1 and _holds_splits(inside[0], depth - 1)


def _refuse_split(root: Path, inner: Path, folders: list[str]) -> None:
    """Raises DataError where the folder given lies below the one that holds the splits."""
    hint = "give the folder above, which holds the splits"
    for name in folders:
        if _WITHIN_SPLIT.match(name):
            raise DataError(f"holds {name}, so it is itself a split", file=root, hint=hint)
    if any(FRAME.fullmatch(entry.name) for entry in scan(inner)) and not folders:
        raise DataError("is itself a clip, not a data set", file=root, hint=hint)


def _no_folder(root: Path) -> DataError:
    hint = "give the folder that holds train and test, or a zip of it"
    try:
        root.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        if isinstance(error, FileNotFoundError) and os.path.islink(root):
            return unreadable(root, error)
        return DataError("no such folder", file=root, hint=hint)
    except OSError as error:
        return unreadable(root, error)
    if root.suffix.lower() in CONVERTED:
        hint = f"convert it first: labkit data convert {quote(str(root))} OUT"
    elif root.suffix.lower() in (".7z", ".rar", ".gz", ".tgz", ".xz"):
        hint = "unpack it first"
    return DataError("is a file, not a data set's folder", file=root, hint=hint)


def _no_clips(root: Path, around: Path) -> DataError:
    hint = "expected ROOT/train/traj_512_to_767.tfrecords/0/0.png and so on"
    if not scan(around):
        hint = "look at its name and place"
        return DataError("is an empty folder: it holds no clips", file=root, hint=hint)
    if found := next(_convertible(around), None):
        ending = os.path.splitext(found)[1].lower()
        kind = "videos" if ending in VIDEOS else f"{ending} files"
        command = f"labkit data convert {quote(str(root))} OUT"
        hint = f"it holds {kind}, such as {found}: convert them first by {command}"
    return DataError("holds no clips in the course's layout", file=root, hint=hint)


def _convertible(folder: Path, depth: int = _DEPTH) -> Iterator[str]:
    """Names of the files in a folder, and in those below it, that `labkit data convert` reads."""
    for entry in sorted(scan(folder), key=lambda entry: _natural(entry.name)):
        if is_folder(entry):  # the course's folders end as records do
            yield from _convertible(folder / entry.name, depth - 1) if depth else ()
        elif os.path.splitext(entry.name)[1].lower() in CONVERTED:
            yield entry.name


# ------------------------------------------------------------------------------- walking


def _find_clips(folder: Path, depth: int = _DEPTH, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """Clip folders at or below `folder`; `above` are the real paths that lead to it."""
    above = above or (os.path.realpath(folder),)
    entries = scan(folder)
    folders = [entry for entry in entries if is_folder(entry)]
    # Pictures or tables make a clip, but stray ones beside numbered folders do not.
    deeper = any(_WITHIN_SPLIT.match(entry.name) for entry in folders)
    is_clip = any(FRAME.fullmatch(e.name) or e.name.lower().endswith(".csv") for e in entries)
    if (is_clip and not deeper) or (not entries and folder.name.isdigit()):
        yield folder
    elif depth:
        for entry in sorted(folders, key=lambda entry: _natural(entry.name)):
            here = os.path.join(above[-1], entry.name)
            if entry.is_symlink() and _encloses(here := os.path.realpath(here), above):
                continue  # a loop of links
            yield from _find_clips(folder / entry.name, depth - 1, (*above, here))


def _encloses(path: str, above: tuple[str, ...]) -> bool:
    return any(place == path or place.startswith(path.rstrip(os.sep) + os.sep) for place in above)


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, by name and number, without hidden ones."""
    names = [entry.name for entry in scan(folder) if is_folder(entry)]
    return [folder / name for name in sorted(names, key=_natural)]


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle
        return False


def scan(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds, in no order, without hidden things (.DS_Store, ._0.png, our own
    folders) and the leftovers of file systems (`__MACOSX`, `Thumbs.db`, `desktop.ini`).

    Raises:
        DataError: it cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not ignored(entry.name)]
    except PermissionError:
        raise DataError("may not be listed", file=folder, hint="change its permissions") from None
    except OSError as error:
        raise unreadable(folder, error) from None


def ignored(name: str) -> bool:
    """Whether a name is a hidden thing's or a file system's leftover."""
    return name.startswith(".") or name.lower() in _LEFTOVERS


def _natural(name: str) -> list[str | int]:
    """Sort key under which `traj_2` comes before `traj_10`."""
    parts = re.split(r"([0-9]+)", name)  # text and numbers in turn, text first
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]
