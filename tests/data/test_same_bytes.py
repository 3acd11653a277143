"""BAIR's records and the course layout give the bytes that they gave before clips could have any
columns and any length. The digests were recorded with the version before that."""

from __future__ import annotations

import hashlib
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from bair_records import features, write_records

from labkit.data.convert import convert
from labkit.data.dataset import ClipDataset

PACK = {
    "test/actions.npy": "6a9937f4f2f0c4a529f0697b840cc0cc",
    "test/frames.bin": "547a330d06482bf3d22003bc79f92a4d",
    "test/names.json": "1fbd3e2b5f1d713455ae88b7d8df5c03",
    "test/positions.npy": "70bc2b83bd5ce98dbf3cf61469d45d32",
    "train/actions.npy": "37df9c8a845cd16af3be238d14c46b35",
    "train/frames.bin": "fe0d39a139d3ff6668ffd87649a06e11",
    "train/names.json": "b726a078c105efeede10a39c188ccfe4",
    "train/positions.npy": "b622d36576c71d107c482d49e0507e9e",
    "validate/actions.npy": "59fdd33887dbc5e241c90b085c6976b4",
    "validate/frames.bin": "6bf4fe7d6ee0948384d3f06570c6963d",
    "validate/names.json": "60fd360b6fa7bcadbd1f6b0c52e9b159",
    "validate/positions.npy": "e0fea976c456622814ff971b7dd59ea1",
}
LAYOUT = "9c7c9bb15cab8539f9b041911516ab64"
BATCH = "03ac38b7551510a3361df55fbdb36e76"


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BAIR, written by the package tfrecord."""
    root = tmp_path_factory.mktemp("bair") / "softmotion30_44k"
    for number, name in enumerate(("train/traj_0_to_255", "train/traj_256_to_511")):
        write_records(root / f"{name}.tfrecords", [features(2 * number), features(2 * number + 1)])
    write_records(root / "test/traj_0_to_255.tfrecords", [features(4)])
    return root


@pytest.fixture(scope="module")
def folders(records: Path) -> Path:
    """The same in the course layout."""
    convert(records, records.parent / "folders", to="layout", workers=1)
    return records.parent / "folders"


def digest(*parts: bytes) -> str:
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(part)
    return found.hexdigest()


def test_a_pack_of_records(records: Path, tmp_path: Path) -> None:
    convert(records, tmp_path / "pack", workers=1)
    files = sorted(p for p in (tmp_path / "pack").rglob("*") if p.is_file())
    found = {
        p.relative_to(tmp_path / "pack").as_posix(): digest(p.read_bytes())
        for p in files
        if p.name != "manifest.json"  # it has remarks on the source
    }
    assert found == PACK


def test_the_course_layout_of_records(folders: Path) -> None:
    parts = []
    for file in sorted(p for p in folders.rglob("*") if p.is_file()):
        parts.append(file.relative_to(folders).as_posix().encode())
        # Pictures as pixels: how well they are compressed is the PNG library's business.
        picture = file.suffix == ".png"
        parts.append(np.asarray(iio.imread(file)).tobytes() if picture else file.read_bytes())
    assert digest(*parts) == LAYOUT


@pytest.mark.parametrize("source", ["folders", "auto"])
def test_items_of_the_course_layout(folders: Path, source: str) -> None:
    """Read from the folders, and from the pack that is made of them."""
    clips = ClipDataset(folders, "train", source=source)
    items = [clips[i] for i in (0, len(clips) // 2, len(clips) - 1)]
    parts = [np.ascontiguousarray(part).tobytes() for item in items for part in item]
    assert digest(*parts) == BATCH
