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
from labkit.data.pack.split import KINDS, PackedSplit, clip_shapes, remake
from labkit.errors import DataError

FORMAT = "labkit pack"
VERSION = 1
MANIFEST = "manifest.json"

_FILES = {**KINDS, "names": ("names.json", "json")}


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
        return PackedSplit(self.root, name, self.manifest["splits"][name]["files"])

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
    if manifest.get("version") != VERSION:
        what = f"is of version {manifest.get('version')}; this labkit reads version {VERSION}"
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
    clips, files = split["clips"], split["files"]
    _, length, _, height, width = files["frames"]["shape"]
    expected = {"names": (), **clip_shapes(length, height, width)}
    for kind in ("frames", "actions", "names", *files):
        entry, (file_name, dtype), shape = files[kind], _FILES[kind], [clips, *expected[kind]]
        sane = all(type(size) is int and size > 0 for size in shape)
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
    split = PackedSplit(root, name, files)
    _ = split.actions, split.positions  # their headers may say something else


def file_digest(file: Path) -> str:
    """The digest of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, new_digest).hexdigest()


def new_digest() -> Any:
    """The digest of the manifest's `blake2b` entries."""
    return hashlib.blake2b(digest_size=16)
