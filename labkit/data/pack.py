"""A memory-mapped uint8 copy of a data set, and its manifest.

    PACK/manifest.json              format version, source, and for each file of each split its
                                    shape, dtype, size in bytes and BLAKE2b digest
    PACK/<split>/frames.bin         uint8 (N, T, 3, H, W), C order, no header
    PACK/<split>/labels.bin         uint8 (N, T, H, W), the same way (only from a simulator)
    PACK/<split>/actions.npy        float32 (N, T, 4)
    PACK/<split>/positions.npy      float32 (N, T, 3) (where the clips have positions)
    PACK/<split>/names.json         the clips' names, in order

A pack is written clip by clip, so memory stays flat, in a hidden folder beside its place, which
it takes only when it is complete.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tqdm.auto import tqdm

from labkit.data import layout
from labkit.data.atomic import replacing
from labkit.data.clip import Clip
from labkit.data.packed import (
    FORMAT,
    KINDS,
    MANIFEST,
    VERSION,
    Pack,
    PackedSplit,
    file_digest,
    is_pack,
    new_digest,
    open_pack,
)
from labkit.errors import DataError

__all__ = ["Pack", "PackedSplit", "ensure_pack", "is_pack", "open_pack", "write_pack"]

INSIDE = ".labkit_pack"
"""name of the pack that belongs to a data set in the course's layout, inside its folder"""


@dataclasses.dataclass
class _Stream:
    """A file that knows its digest while it is written."""

    file: BinaryIO
    digest: Any = dataclasses.field(default_factory=new_digest)

    def write(self, data: Any) -> None:
        self.file.write(data)
        self.digest.update(data)


def write_pack(
    root: Path | str,
    splits: Mapping[str, Iterable[Clip]],
    source: str,
    progress: bool = False,
    fingerprint: str = "",
) -> Pack:
    """Writes a pack, whole or not at all; an earlier one at `root` is replaced.

    Args:
        root: the pack's folder.
        splits: the clips of each split. An iterator may make them as it goes: one at a time is
            in memory.
        source: where the clips come from, for the manifest.
        progress: show a progress bar for each split.
        fingerprint: state of the source, for the manifest: see `ensure_pack`.

    Raises:
        DataError: a split without clips, clips of several shapes, some clips with positions or
            labels and some without; the message names the clip. Or the disk is full.
    """
    root = Path(root)
    if root.is_dir() and any(root.iterdir()) and not is_pack(root):
        mend = "choose another folder, or delete this one"
        raise DataError("holds something that is not a pack", file=root, mend=mend)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "source": source,
        "fingerprint": fingerprint,
        "splits": {},
    }
    with replacing(root) as fresh:
        for split, clips in splits.items():
            name = layout.canonical_split(split)
            (fresh / name).mkdir()
            shown = tqdm(clips, desc=f"packing {name}", unit="clip", disable=not progress)
            manifest["splits"][name] = _write_split(fresh / name, iter(shown))
        text = json.dumps(manifest, indent=1) + "\n"
        (fresh / MANIFEST).write_text(text, encoding="utf-8")
    return open_pack(root)


def _write_split(folder: Path, clips: Iterable[Clip]) -> dict[str, Any]:
    first: Clip | None = None
    names: list[str] = []
    # 20 MB of actions for all of BAIR: the small arrays may wait in memory.
    small: dict[str, list[np.ndarray]] = {"actions": [], "positions": []}
    digests = {}
    with (folder / "frames.bin").open("wb") as f, (folder / "labels.bin").open("wb") as g:
        big = {"frames": _Stream(f), "labels": _Stream(g)}
        for clip in clips:
            first = clip if first is None else first
            _check_alike(clip, first, len(names))
            for kind, value in vars(clip).items():
                if kind in big and value is not None:
                    big[kind].write(np.ascontiguousarray(value).data)
                elif kind in small and value is not None:
                    small[kind].append(np.asarray(value, np.float32))
            names.append(clip.name)
        digests = {kind: stream.digest.hexdigest() for kind, stream in big.items()}
    if first is None:
        mend = "leave the split out, or give it clips"
        raise DataError(f"split {folder.name} has no clips", mend=mend)
    if first.labels is None:
        (folder / "labels.bin").unlink()
    files = {}
    for kind, (file_name, dtype, _) in KINDS.items():
        if getattr(first, kind) is None:
            continue
        if kind in small:
            np.save(folder / file_name, np.stack(small[kind]))
        shape = [len(names), *getattr(first, kind).shape]
        files[kind] = _entry(folder / file_name, shape, dtype, digests.get(kind))
    (folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
    files["names"] = _entry(folder / "names.json", [len(names)], "json", None)
    return {"clips": len(names), "files": files}


def _entry(file: Path, shape: list[int], dtype: str, digest: str | None) -> dict[str, Any]:
    """A file's line in the manifest; the digest of a small file is made here."""
    return {
        "file": file.name,
        "shape": shape,
        "dtype": dtype,
        "bytes": file.stat().st_size,
        "blake2b": digest or file_digest(file),
    }


def _check_alike(clip: Clip, first: Clip, number: int) -> None:
    """Raises DataError unless the clip is whole and has the first one's shape and parts."""
    who = f"clip {clip.name or number}"
    if clip.frames.dtype != np.uint8 or clip.frames.ndim != 4 or clip.frames.shape[1] != 3:
        what = f"frames of {who} are {clip.frames.dtype} {clip.frames.shape}"
        raise DataError(what, mend="expected uint8 (T, 3, H, W)")
    if clip.frames.shape != first.frames.shape:
        what = f"frames of {who} have shape {clip.frames.shape}, the first's {first.frames.shape}"
        raise DataError(what, mend="all clips of a split must have one length and size")
    length, _, height, width = clip.frames.shape
    shapes = {
        "actions": (length, 4),
        "positions": (length, 3),
        "labels": (length, height, width),
    }
    for kind, shape in shapes.items():
        value, model = getattr(clip, kind), getattr(first, kind)
        if (value is None) != (model is None):
            what = f"{who} has {'no ' if value is None else ''}{kind}, unlike the first clip"
            raise DataError(what, mend="give them to all clips of the split, or to none")
        if value is not None and value.shape != shape:
            what = f"{kind} of {who} have shape {value.shape}"
            raise DataError(what, mend=f"expected {shape}")


# -------------------------------------------------------------- packs of the course's layout


def ensure_pack(root: Path | str, progress: bool = False) -> Pack:
    """The pack of a data set: `root` itself, or the one made from its course layout.

    The pack of a layout is kept in `ROOT/.labkit_pack`, or in the user's cache folder where
    `ROOT` cannot be written. It is made again when the source has changed: when the names, sizes
    or times of change (to the nanosecond) of the clips' files differ from when it was made.

    Raises:
        DataError: `root` is neither, or a clip in it cannot be read.
    """
    root = Path(root)
    if is_pack(root):
        return open_pack(root)
    fingerprint = _fingerprint(root)
    for place in (root / INSIDE, _cached(root)):
        if is_pack(place):
            try:
                pack = open_pack(place)
            except DataError:
                continue  # damaged or of another version, but its source is here
            if pack.manifest.get("fingerprint") == fingerprint:
                return pack
    place = root / INSIDE if os.access(root, os.W_OK) else _cached(root)
    clips = {name: _Folders(layout.clip_folders(root, name)) for name in layout.splits(root)}
    source = f"course layout in {root}"
    return write_pack(place, clips, source, progress=progress, fingerprint=fingerprint)


@dataclasses.dataclass(frozen=True)
class _Folders:
    """The clips of some folders, read one at a time; it has a length for the progress bar."""

    folders: list[Path]

    def __len__(self) -> int:
        return len(self.folders)

    def __iter__(self) -> Iterator[Clip]:
        return map(layout.read_clip, self.folders)


def _cached(root: Path) -> Path:
    """The pack's place in the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.blake2b(str(root.resolve()).encode(), digest_size=8).hexdigest()
    return cache / "labkit" / "packs" / f"{root.resolve().name}-{key}"


def _fingerprint(root: Path) -> str:
    """Digest of the names, sizes and times of change of all the clips' files."""
    digest = new_digest()
    for name in layout.splits(root):
        for folder in layout.clip_folders(root, name):
            digest.update(os.fsencode(f"{name}/{folder.parent.name}/{folder.name}\n"))
            for entry in sorted(layout.scan(folder), key=lambda entry: entry.name):
                with contextlib.suppress(OSError):  # a dangling link; reading it will say so
                    state = entry.stat()
                    line = f"{entry.name} {state.st_size} {state.st_mtime_ns}\n"
                    digest.update(os.fsencode(line))
    return digest.hexdigest()
