"""Opening a pack: its manifest, checked, and its splits (format: the package)."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from labkit.data import layout
from labkit.data.pack.split import KINDS, LENGTHS, PackedSplit, remake, row_shapes
from labkit.errors import DataError

FORMAT = "labkit pack"
VERSION = 1
"""of a pack whose clips are of one length, with BAIR's columns"""
NEWER = 2
"""of a pack with clips of several lengths, or with other columns"""
MANIFEST = "manifest.json"

_FILES = {**KINDS, "names": ("names.json", "json"), "lengths": (LENGTHS, "json")}


class Pack:
    """A pack on disk: splits by name and the manifest."""

    def __init__(self, root: Path, manifest: dict[str, Any]) -> None:
        self.root, self.manifest = Path(root), manifest
        self.given = self.root
        """what messages call it: the data set that the user gave, where the pack is hidden in it"""

    def __repr__(self) -> str:
        # The folder's name alone: a notebook's output must not depend on where it lies.
        counts = ", ".join(f"{name} {len(self.split(name))}" for name in self.splits)
        return f"Pack({self.root.name}: {counts})"

    @property
    def splits(self) -> list[str]:
        """Names of the splits."""
        return list(self.manifest["splits"])

    def split(self, name: str) -> PackedSplit:
        """A split by name; `val` is `validate`.

        Raises:
            DataError: there is no such split (the message lists those there are).
        """
        name = layout.canonical_split(name)
        if name not in self.manifest["splits"]:
            raise layout.missing_split(name, self.splits, self.given)
        return PackedSplit(self.root, name, self.manifest["splits"][name])

    def verify(self) -> None:
        """Reads every byte and compares it with the manifest's digests.

        Raises:
            DataError: a file differs.
        """
        for fault in self.faults():
            raise fault

    def faults(self) -> Iterator[DataError]:
        """One error for each file whose bytes differ from the manifest's digest."""
        for name, split in self.manifest["splits"].items():
            for kind, entry in split["files"].items():
                file = self.root / name / _FILES[kind][0]
                try:
                    what = "has changed since it was packed"
                    same = file_digest(file) == entry.get("blake2b")
                except OSError as error:
                    what, same = f"cannot be read: {error.strerror}", False
                if not same:
                    yield DataError(what, file=file, hint=remake(self.root))


def is_pack(root: Path | str) -> bool:
    """Whether `root` is the folder of a pack."""
    return os.path.isfile(Path(root) / MANIFEST)  # unlike Path's, it never raises


def open_pack(root: Path | str) -> Pack:
    """Opens a pack and compares its files' sizes with the manifest (`Pack.verify` reads them).

    Raises:
        DataError: no pack, one of an unknown version, or one whose files do not fit.
    """
    root = Path(root)
    file = root / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        hint = "make one with `labkit data pack` or `labkit data simulate`"
        raise DataError("is not a pack: it has no manifest.json", file=root, hint=hint) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"is not readable: {error}", file=file, hint=remake(root)) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError("is not the manifest of a pack", file=file, hint=remake(root))
    if manifest.get("version") not in (VERSION, NEWER):
        what = f"is of version {manifest.get('version')}; this labkit reads {VERSION} and {NEWER}"
        raise DataError(what, file=file, hint=remake(root))
    try:
        if not manifest["splits"]:
            raise DataError("lists no splits", file=file, hint=remake(root))
        for name, split in manifest["splits"].items():
            _check_split(root, name, split)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"is incomplete: {type(error).__name__} {error}"
        raise DataError(what, file=file, hint=remake(root)) from None
    return Pack(root, manifest)


def _check_split(root: Path, name: str, split: Mapping[str, Any]) -> None:
    files = split["files"]
    for kind, expected in _expected_shapes(split).items():
        if kind not in files and kind in ("positions", "labels"):
            continue
        entry, (file_name, dtype), shape = files[kind], _FILES[kind], list(expected)
        least = 0 if kind == "actions" else 1
        sane = all(type(size) is int and size > 0 for size in shape[:-1]) and shape[-1] >= least
        if entry["dtype"] != dtype or entry["shape"] != shape or not sane:
            what = f"says {entry['dtype']} {entry['shape']} of {name}/{file_name}"
            hint = f"expected {dtype} {shape}: {remake(root)}"
            raise DataError(what, file=root / MANIFEST, hint=hint)
        file = root / name / file_name
        size = os.path.getsize(file) if os.path.isfile(file) else None
        if size != entry["bytes"]:
            what = "is missing" if size is None else f"has {size} of {entry['bytes']} bytes"
            raise DataError(what, file=file, hint=remake(root))
        if file.suffix == ".bin" and math.prod(shape) != size:
            what = f"has {size} bytes; its manifest's shape {shape} needs {math.prod(shape)}"
            raise DataError(what, file=file, hint=remake(root))
    opened = PackedSplit(root, name, split)
    _ = opened.actions, opened.positions  # their headers may say something else
    if "lengths" in files:
        lengths, total = opened.lengths, files["frames"]["shape"][0]
        if lengths.min() < 1 or lengths.sum() != total:
            what = f"adds up to {lengths.sum()} frames; its manifest says {total}"
            raise DataError(what, file=root / name / LENGTHS, hint=remake(root))


def _expected_shapes(split: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of each file of a split, by its entry in the manifest.

    Raises:
        KeyError: there is a file of an unknown kind.
        ValueError: the number of names is not that of the columns.
    """
    clips, files = split["clips"], split["files"]
    if unknown := files.keys() - _FILES.keys():
        raise KeyError(*unknown)
    *rows, _, height, width = files["frames"]["shape"]
    rows = [clips, *rows[1:]] if "lengths" not in files else rows
    if len(rows) != 1 + ("lengths" not in files):
        raise ValueError("frames have another number of axes")
    counts = {}
    for kind in ("actions", "positions"):
        counts[kind] = files[kind]["shape"][-1] if kind in files else 0
        names = split.get("columns", {}).get(kind)
        if names is not None and (
            len(names) != counts[kind] or not all(isinstance(each, str) for each in names)
        ):
            raise ValueError(f"{len(names)} names for {counts[kind]} columns of {kind}")
    shapes = row_shapes(height, width, counts["actions"], counts["positions"])
    found = {kind: (*rows, *shape) for kind, shape in shapes.items()}
    lists = ["names", "lengths"] if "lengths" in files else ["names"]
    return found | {kind: (clips,) for kind in lists}


def file_digest(file: Path) -> str:
    """The digest of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, new_digest).hexdigest()


def new_digest() -> Any:
    """The digest of the manifest's `blake2b` entries."""
    return hashlib.blake2b(digest_size=16)
