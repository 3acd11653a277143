"""`labkit data ...` as it is typed: what it prints, and what it refuses before it begins."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from labkit.cli import main
from labkit.data.pack import is_pack


def said(capsys: pytest.CaptureFixture, *words: object) -> tuple[int, str]:
    """The exit code of a command, and all that it printed."""
    code = main(["data", *map(str, words), "--no-progress"])
    return code, "".join(capsys.readouterr())


def test_a_pack_is_told_by_the_name_that_was_given(
    good_course: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    inside = good_course / ".labkit_pack"
    code, text = said(capsys, "pack", good_course)
    assert (code, text) == (0, f"{good_course}: 3 train, 1 test clips; its pack is {inside}\n")
    zipped = shutil.make_archive(str(tmp_path / "zipped"), "zip", good_course)
    assert said(capsys, "pack", zipped)[1].startswith(f"{zipped}: 3 train, 1 test clips; its pack")
    code, text = said(capsys, "pack", inside)
    assert (code, text) == (0, f"{inside}: 3 train, 1 test clips; a pack already\n")


def test_the_faults_of_a_zip_are_named_by_their_place_in_it(
    good_course: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (good_course / "train/traj_512_to_767.tfrecords/1/3.png").write_bytes(b"")
    zipped = shutil.make_archive(str(tmp_path / "zipped"), "zip", good_course)
    broken = f"{zipped}/train/traj_512_to_767.tfrecords/1/3.png: is not a readable PNG"
    for option in ((), ("--fix", tmp_path / "copy")):
        code, text = said(capsys, "check", zipped, *option)
        assert code == (0 if option else 1)
        assert f"fault: {broken}" in text
        assert ".unpacked" not in text
    assert f"left out: {broken}" in text


@pytest.mark.parametrize("command", ["convert SOURCE OUT", "simulate OUT"])
@pytest.mark.parametrize("workers", [0, -1])
def test_a_number_of_processes_is_one_or_more(
    tmp_path: Path, capsys: pytest.CaptureFixture, command: str, workers: int
) -> None:
    words = [str(tmp_path / word) if word.isupper() else word for word in command.split()]
    code, text = said(capsys, *words, "--workers", workers)
    assert code == 2
    assert f"--workers is {workers} (give 1 or more" in text


def test_what_cannot_be_written_is_said_before_anything_is_read(
    good_course: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    code, text = said(capsys, "check", good_course, "--fix", good_course)
    assert (code, text.count("\n")) == (2, 1)
    assert "is not empty (choose a new folder beside the data set)" in text
    out = tmp_path / "out"
    code, text = said(
        capsys, "simulate", out, "--layout", "course", "--train", 1, "--validate", 0, "--test", 1
    )
    assert (code, text.count("\n")) == (2, 1)
    assert "0 clips for validate" in text
    assert not out.exists()


def test_a_layout_is_not_mixed_with_a_pack(
    good_course: Path, bair: Path, capsys: pytest.CaptureFixture
) -> None:
    pack = good_course / ".labkit_pack"
    code, text = said(capsys, "convert", bair / "train", pack, "--layout")
    assert code == 2
    assert "is a pack, not a course layout (choose another folder)" in text
    assert is_pack(pack)
    assert sorted(entry.name for entry in pack.iterdir()) == ["manifest.json", "test", "train"]
