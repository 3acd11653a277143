"""Files and folders are written whole or not at all, and nothing else is harmed."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from labkit.errors import DataError, LabkitError
from labkit.files import replacing, write_whole


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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_a_folder_and_a_device_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(os.devnull)
    for name, words in (
        ("pipe", "is a device, a pipe or a socket"),
        ("folder", "is a folder"),
        ("link", "is a device, a pipe or a socket"),
    ):
        with pytest.raises(LabkitError, match=words):
            write_whole(tmp_path / name, "x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "link", "pipe"]


def test_the_target_of_a_link_is_written_and_the_link_stays(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.gif"
    for name in ("there/a.gif", "there/new.gif"):  # one that exists, and one that does not
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / name)
        write_whole(link, "content")
        assert link.is_symlink()
        assert (tmp_path / name).read_text() == "content"
    assert sorted(entry.name for entry in (tmp_path / "there").iterdir()) == ["a.gif", "new.gif"]


def test_the_current_folder_keeps_its_place(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    (folder / "old").mkdir(parents=True)
    (folder / "errors").touch()  # as of `command 2> errors`
    monkeypatch.chdir(folder)
    inode = folder.stat().st_ino
    with replacing(".") as fresh:
        (fresh / "new").mkdir()
        (fresh / "new" / "file").write_text("new")
    assert sorted(os.listdir()) == ["errors", "new"]
    assert folder.stat().st_ino == inode
    with pytest.raises(ZeroDivisionError), replacing("."):
        raise ZeroDivisionError
    assert sorted(os.listdir()) == ["errors", "new"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["here"]


def test_an_exchange_that_fails_is_undone(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text("old")
    monkeypatch.chdir(folder)
    move = shutil.move

    def full(source, target):
        if Path(target) == folder / "new" and Path(source) != target:
            raise OSError(28, "No space left on device")
        return move(source, target)

    monkeypatch.setattr("labkit.files.shutil.move", full)
    with pytest.raises(DataError, match="No space left"), replacing(folder) as fresh:
        (fresh / "new").write_text("new")
    assert sorted(os.listdir()) == ["a", "b"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["here"]


def test_a_folder_below_a_file_says_which_file(tmp_path):
    (tmp_path / "file").write_text("mine")
    for name in ("file", "file/below/it"):
        with (
            pytest.raises(DataError, match=r"is a file \(give the name of a folder\)") as caught,
            replacing(tmp_path / name),
        ):
            pass
        assert Path(caught.value.file) == tmp_path / "file"
        with pytest.raises(LabkitError, match=r"is a file \(give the name of a folder\)") as caught:
            write_whole(tmp_path / name / "picture.png", b"new")
        assert Path(caught.value.file) == tmp_path / "file"
    assert (tmp_path / "file").read_text() == "mine"
