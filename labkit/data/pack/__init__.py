"""A memory-mapped uint8 copy of a data set, and its manifest.

    PACK/manifest.json              format version, source, and for each file of each split its
                                    shape, dtype, size in bytes and BLAKE2b digest
    PACK/<split>/frames.bin         uint8 (N, T, 3, H, W), C order, no header
    PACK/<split>/labels.bin         uint8 (N, T, H, W), the same way (only from a simulator)
    PACK/<split>/actions.npy        float32 (N, T, A)
    PACK/<split>/positions.npy      float32 (N, T, P) (where the clips have positions)
    PACK/<split>/names.json         the clips' names, in order
    PACK/<split>/lengths.json       the clips' numbers of frames, only where they differ; the
                                    arrays then hold all frames in a row, (R, ...) for (N, T, ...)

Version 1 has clips of one length and BAIR's columns; version 2 has other lengths or columns, and
the columns' names in the manifest.

A pack is written clip by clip (`PackWriter`), so memory stays flat, in a hidden folder beside its
place, which it takes only when it is complete. The manifest may have notes of the writer besides.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from labkit.data import layout
from labkit.data.clip import Clip
from labkit.data.pack.packed import (
    Pack,
    PackedSplit,
    is_pack,
    new_digest,
    open_pack,
)
from labkit.data.pack.writer import PackWriter
from labkit.errors import DataError

__all__ = [
    "Pack",
    "PackWriter",
    "PackedSplit",
    "ensure_pack",
    "is_pack",
    "open_pack",
    "splits_of",
    "write_pack",
]

INSIDE = ".labkit_pack"
"""name of the pack that belongs to a data set in the course's layout, inside its folder"""

WAIT_SECONDS = 3600.0
"""how long `ensure_pack` waits for another process that is making the same pack"""


def write_pack(
    root: Path | str,
    splits: Mapping[str, Iterable[Clip]],
    source: str,
    progress: bool = False,
    fingerprint: str = "",
    notes: Mapping[str, Any] | None = None,
) -> Pack:
    """Writes a pack, whole or not at all; an earlier one at `root` is replaced.

    Args:
        root: the pack's folder.
        splits: the clips of each split. An iterator may make them as it goes: one at a time is
            in memory.
        source: where the clips come from, for the manifest.
        progress: show a progress bar for each split.
        fingerprint: state of the source, for the manifest: see `ensure_pack`.
        notes: further entries of the manifest, values for JSON.

    Raises:
        DataError: a split without clips, clips of several shapes, some clips with positions or
            labels and some without; the message names the clip. Or the disk is full.
    """
    with PackWriter(root, source, fingerprint=fingerprint) as writer:
        for key, value in (notes or {}).items():
            writer.set_note(key, value)
        return _fill(writer, splits, progress)


def _fill(writer: PackWriter, splits: Mapping[str, Iterable[Clip]], progress: bool) -> Pack:
    """Writes all clips of the splits and finishes the pack."""
    for split, clips in splits.items():
        name = layout.canonical_split(split)
        count = 0
        folders = clips.folders if isinstance(clips, _Folders) else None
        for clip in tqdm(clips, desc=f"packing {name}", unit="clip", disable=not progress):
            writer.add(name, clip, folders and folders[count])
            count += 1
        if not count:
            hint = "leave the split out, or give it clips"
            raise DataError(f"split {name} has no clips", file=writer.root, hint=hint)
    return writer.finish()


# -------------------------------------------------------------- packs of the course's layout


def ensure_pack(root: Path | str, progress: bool = False) -> Pack:
    """The pack of a data set: `root` itself, or the one made from its course layout; a zip of
    either is unpacked first (`layout.resolve`).

    The pack of a layout is kept in `ROOT/.labkit_pack`, or in the user's cache folder where
    `ROOT` cannot be written. It is made again when the source has changed: when the names, sizes
    or times of change (to the nanosecond) of the splits' files differ from when it was made. Where
    another process is making it, this one waits and takes that one.

    Raises:
        DataError: `root` is neither, a clip in it cannot be read, or the disk is full.
    """
    given, root = Path(root), layout.resolve(root, progress=progress)
    with layout.called(given, root):
        pack = _ensured(root, progress)
    pack.given = given
    return pack


def splits_of(root: Path | str) -> list[str]:
    """Names of the splits of a pack, or of a course layout, whose pack is not made for this.

    Raises:
        DataError: `root` is neither.
    """
    root = layout.resolve(root)
    return open_pack(root).splits if is_pack(root) else layout.splits(root)


def _ensured(root: Path, progress: bool) -> Pack:
    if is_pack(root):
        return open_pack(root)
    fingerprint = _fingerprint(root)
    if pack := _current(root, fingerprint):
        return pack
    place = root / INSIDE if os.access(root, os.W_OK) else _cached(root)
    source = f"course layout in {root}"
    with PackWriter(place, source, fingerprint=fingerprint, wait=WAIT_SECONDS) as writer:
        if pack := _current(root, fingerprint):
            return pack  # another process made it while this one waited
        clips = {name: _Folders(layout.clip_folders(root, name)) for name in layout.splits(root)}
        return _fill(writer, clips, progress)


def _current(root: Path, fingerprint: str) -> Pack | None:
    """The pack of a layout in that state, if there is one."""
    for place in (root / INSIDE, _cached(root)):
        if is_pack(place):
            try:
                pack = open_pack(place)
            except DataError:
                continue  # damaged or of another version, but its source is here
            if pack.manifest.get("fingerprint") == fingerprint:
                return pack
    return None


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
    """Digest of the names, sizes and times of change of all files in the splits' folders."""
    digest = new_digest()
    for name, folder in layout.split_folders(root).items():
        for state in _states(folder, name):
            digest.update(state)
    return digest.hexdigest()


def _states(folder: Path, name: str, depth: int = 4) -> Iterator[bytes]:
    """For each folder at or below one, its name and the state of its files.

    It asks for each file once, of the open folder, and does nothing else for it: this runs at
    every start, over a million files. The depth ends loops of links; clips lie at 3 at most.
    """
    files, inner = [], []
    for entry in layout.scan(folder):
        try:
            if entry.is_dir():
                inner.append(entry)
                continue
            state = entry.stat()
            files.append(f"{entry.name}/{state.st_size}/{state.st_mtime_ns}")
        except OSError:  # a link that leads nowhere; reading it will say so
            files.append(entry.name)
    files.sort()
    yield os.fsencode("\n".join([f"{name}/", *files, ""]))
    for entry in sorted(inner, key=lambda entry: entry.name) if depth else ():
        yield from _states(Path(entry.path), f"{name}/{entry.name}", depth - 1)
