"""Reading a pack: its splits as memory-mapped arrays, and its manifest (format: `pack.py`)."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from labkit.data import layout
from labkit.data.clip import Clip
from labkit.errors import DataError

FORMAT = "labkit pack"
VERSION = 1
MANIFEST = "manifest.json"

KINDS = {
    "frames": ("frames.bin", "uint8", 5),
    "actions": ("actions.npy", "float32", 3),
    "positions": ("positions.npy", "float32", 3),
    "labels": ("labels.bin", "uint8", 4),
}
"""For each array its file, dtype and number of axes."""


class PackedSplit:
    """One split of a pack. Files are mapped on first use, so that it pickles cheaply."""

    def __init__(self, root: Path, name: str, files: Mapping[str, Mapping[str, Any]]) -> None:
        self.root, self.name, self._files = Path(root), name, dict(files)
        self.shape = tuple(self._files["frames"]["shape"])
        """(N, T, 3, H, W)"""

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getstate__(self) -> dict[str, Any]:
        mapped = ("frames", "actions", "positions", "labels", "names")
        return {key: value for key, value in self.__dict__.items() if key not in mapped}

    @functools.cached_property
    def frames(self) -> UInt8[np.ndarray, "N T 3 H W"]:
        """The pictures, read only."""
        return self._map("frames")

    @functools.cached_property
    def actions(self) -> Float32[np.ndarray, "N T 4"]:
        """The actions, read only."""
        return self._map("actions")

    @functools.cached_property
    def positions(self) -> Float32[np.ndarray, "N T 3"] | None:
        """The end effector's positions, where the clips have them."""
        return self._map("positions") if self.has_positions else None

    @functools.cached_property
    def labels(self) -> UInt8[np.ndarray, "N T H W"] | None:
        """The region of each pixel, where a simulator told."""
        return self._map("labels") if self.has_labels else None

    @functools.cached_property
    def names(self) -> list[str]:
        """The clips' names."""
        file = self.root / self.name / "names.json"
        try:
            names = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            what = f"is not readable: {error}"
            raise DataError(what, file=file, mend=_mend(self.root)) from None
        if not isinstance(names, list) or len(names) != len(self):
            what = f"does not hold {len(self)} names"
            raise DataError(what, file=file, mend=_mend(self.root))
        return names

    @property
    def has_positions(self) -> bool:
        """Whether the clips have end-effector positions."""
        return "positions" in self._files

    @property
    def has_labels(self) -> bool:
        """Whether the clips have region labels."""
        return "labels" in self._files

    def clip(self, index: int, start: int = 0, stop: int | None = None) -> Clip:
        """Clip number `index`, or its frames `start` to `stop` (exclusive), without a copy."""
        window = slice(start, stop)
        return Clip(
            frames=self.frames[index, window],
            actions=self.actions[index, window],
            positions=None if self.positions is None else self.positions[index, window],
            labels=None if self.labels is None else self.labels[index, window],
            name=self.names[index],
        )

    def conditions(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Actions (T, 4) and positions (T, 3) of clip `index`."""
        return self.actions[index], None if self.positions is None else self.positions[index]

    def _map(self, kind: str) -> np.ndarray:
        name, dtype, _ = KINDS[kind]
        file, shape = self.root / self.name / name, tuple(self._files[kind]["shape"])
        try:
            if file.suffix == ".npy":
                array = np.load(file, mmap_mode="r", allow_pickle=False)
            else:
                array = np.memmap(file, dtype=dtype, mode="r", shape=shape)
        except (OSError, ValueError) as error:
            raise DataError(
                f"cannot be mapped: {error}", file=file, mend=_mend(self.root)
            ) from None
        if array.dtype != dtype or array.shape != shape:
            what = f"holds {array.dtype} {array.shape}, its manifest says {dtype} {shape}"
            raise DataError(what, file=file, mend=_mend(self.root))
        return array.view(np.ndarray)  # slices of a plain view are cheaper than a memmap's


class Pack:
    """A pack on disk: splits by name and the manifest."""

    def __init__(self, root: Path, manifest: dict[str, Any]) -> None:
        self.root, self.manifest = Path(root), manifest

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
            raise layout.missing_split(name, self.splits, self.root)
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
            for entry in split["files"].values():
                file = self.root / name / entry["file"]
                if file_digest(file) != entry["blake2b"]:
                    what = "has changed since it was packed"
                    yield DataError(what, file=file, mend=_mend(self.root))


def is_pack(root: Path | str) -> bool:
    """Whether `root` is the folder of a pack."""
    return (Path(root) / MANIFEST).is_file()


def open_pack(root: Path | str) -> Pack:
    """Opens a pack and compares its files' sizes with the manifest (`Pack.verify` reads them).

    Raises:
        DataError: no pack, one of an unknown version, or one whose files do not fit.
    """
    root = Path(root)
    file = root / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        mend = "make one with `labkit data pack` or `labkit data simulate`"
        raise DataError("is not a pack: it has no manifest.json", file=root, mend=mend) from None
    except (OSError, ValueError) as error:
        raise DataError(f"is not readable: {error}", file=file, mend=_mend(root)) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError("is not the manifest of a pack", file=file, mend=_mend(root))
    if manifest.get("version") != VERSION:
        what = f"is of version {manifest.get('version')}; this labkit reads version {VERSION}"
        raise DataError(what, file=file, mend=_mend(root))
    try:
        for name, split in manifest["splits"].items():
            _check_split(root, name, split)
    except (KeyError, TypeError, AttributeError) as error:
        what = f"is incomplete: {type(error).__name__} {error}"
        raise DataError(what, file=file, mend=_mend(root)) from None
    return Pack(root, manifest)


def _check_split(root: Path, name: str, split: Mapping[str, Any]) -> None:
    files = split["files"]
    for kind in ("frames", "actions", *files):
        entry, (file_name, dtype, axes) = files[kind], KINDS.get(kind, ("names.json", "json", 1))
        file, shape = root / name / file_name, entry["shape"]
        if entry["dtype"] != dtype or len(shape) != axes or shape[0] != split["clips"]:
            what = f"says {entry['dtype']} {shape} of {file_name}; expected {dtype}, {axes} axes"
            raise DataError(what, file=root / MANIFEST, mend=_mend(root))
        size = file.stat().st_size if file.is_file() else None
        if size != entry["bytes"]:
            what = "is missing" if size is None else f"has {size} of {entry['bytes']} bytes"
            raise DataError(what, file=file, mend=_mend(root))
        if file.suffix == ".bin" and math.prod(shape) != size:
            what = f"has {size} bytes; its manifest's shape {shape} needs {math.prod(shape)}"
            raise DataError(what, file=file, mend=_mend(root))


def _mend(root: Path) -> str:
    return f"delete {root} and make the pack again"


def file_digest(file: Path) -> str:
    """The digest of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, new_digest).hexdigest()


def new_digest() -> Any:
    """The digest of the manifest's `blake2b` entries."""
    return hashlib.blake2b(digest_size=16)
