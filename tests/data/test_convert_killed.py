"""Conversions that are killed or interrupted, and go on where they stopped."""

from __future__ import annotations

import time

import psutil
import pytest
from converting import BAIR, counted, killed, only, tarred, tree

from labkit.data.convert import convert
from labkit.data.convert import records as convert_records


@pytest.mark.parametrize("suffix", ["", ".tar.gz"])
def test_a_pack_that_was_killed_again_and_again(bair, packed, tmp_path, monkeypatch, suffix):
    source = tarred(bair, tmp_path / f"bair{suffix}", [*BAIR]) if suffix else bair
    kills = [("add", 6)] if suffix else [("add", 1), ("add", 6), ("checkpoint", 2)]
    for where, number in kills:
        killed(source, tmp_path / "out", "pack", 1, where, number)
        assert not (tmp_path / "out").exists()
    read = counted(monkeypatch)
    convert(source, tmp_path / "out", workers=1)
    assert 0 < read[0] <= 7
    if suffix:
        convert(source, tmp_path / "whole", workers=1)
        packed = tmp_path / "whole"
    assert tree(tmp_path / "out") == tree(packed)
    assert not [name for name in only(tmp_path) if name.startswith(".")]


def test_a_layout_that_was_killed_again_and_again(bair, folders, tmp_path, monkeypatch):
    for where, number in (("save", 40), ("unlink", 3)):
        killed(bair, tmp_path / "out", "layout", 1, where, number)
        assert not (tmp_path / "out").exists()
    read = counted(monkeypatch)
    convert(bair, tmp_path / "out", to="layout", workers=1)
    assert 0 < read[0] < 10  # one was whole when the first run was killed, more at the second
    assert tree(tmp_path / "out") == tree(folders)
    assert only(tmp_path) == ["out"]


@pytest.mark.parametrize("number", [12, 14])
def test_a_layout_that_was_killed_on_its_way_to_its_place(bair, folders, tmp_path, number):
    killed(bair, tmp_path / "out", "layout", 1, "rename", number)  # 11 clips, then 3 splits
    convert(bair, tmp_path / "out", to="layout", workers=1)
    assert tree(tmp_path / "out") == tree(folders)
    assert only(tmp_path) == ["out"]


def test_the_workers_of_a_killed_run_end_too(bair, packed, tmp_path):
    before = set(psutil.pids())
    killed(bair, tmp_path / "out", "pack", 2, "add", 5)
    for _ in range(100):
        left = [p for p in psutil.process_iter(["cmdline"]) if p.pid not in before]
        left = [p for p in left if "multiprocessing" in " ".join(p.info["cmdline"] or [])]
        if not left:
            break
        time.sleep(0.1)
    assert not left
    convert(bair, tmp_path / "out", workers=2)
    assert tree(tmp_path / "out") == tree(packed)


@pytest.mark.parametrize("to", ["pack", "layout"])
def test_ctrl_c_keeps_what_is_done(bair, packed, folders, tmp_path, monkeypatch, to):
    read = counted(monkeypatch)
    inner = convert_records.read_example

    def interrupted(*args):
        if read[0] == 8:
            raise KeyboardInterrupt
        return inner(*args)

    with monkeypatch.context() as patched:
        patched.setattr(convert_records, "read_example", interrupted)
        with pytest.raises(KeyboardInterrupt):
            convert(bair, tmp_path / "out", to=to, workers=1)
    assert not (tmp_path / "out").exists()
    read[0] = 0
    convert(bair, tmp_path / "out", to=to, workers=1)
    assert read[0] == 3
    assert tree(tmp_path / "out") == tree(packed if to == "pack" else folders)


def test_another_camera_or_a_changed_source_starts_afresh(bair, tmp_path, monkeypatch):
    killed(bair, tmp_path / "out", "pack", 1, "add", 8)
    read = counted(monkeypatch)
    convert(bair, tmp_path / "out", camera="main", workers=1)
    assert read[0] == 11
    assert only(tmp_path) == ["out"]
