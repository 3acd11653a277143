"""A file is written whole or not at all."""

from __future__ import annotations

import os

import pytest

from labkit.errors import LabkitError
from labkit.files import write_whole


def test_writes_and_replaces_and_makes_folders(tmp_path) -> None:
    file = tmp_path / "new" / "a.txt"
    write_whole(file, "größer")
    assert file.read_text(encoding="utf-8") == "größer"
    write_whole(file, b"\x00")
    assert file.read_bytes() == b"\x00"
    assert os.listdir(file.parent) == ["a.txt"]


def test_a_failed_write_leaves_the_old_content(tmp_path, monkeypatch) -> None:
    file = tmp_path / "a.txt"
    write_whole(file, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LabkitError, match=r"a\.txt: cannot be written: No space left .*disk space"):
        write_whole(file, "new")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]
