"""What somebody reads who brings data of his own: the sentence names what is wrong and the command
or the file that mends it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from test_recordings import csv, film, movie, rows

from labkit.cli import main
from labkit.cli.options import evaluation_of
from labkit.config import ModelConfig
from labkit.data import layout
from labkit.data.check import check
from labkit.data.clip import FRAME_SIZES
from labkit.data.convert.recording import Pictures
from labkit.data.dataset import ClipDataset
from labkit.data.pack import write_pack
from labkit.errors import ConfigError, DataError


@pytest.fixture
def said(capsys: pytest.CaptureFixture):
    """A function: words of a command -> (exit code, what it printed)."""

    def run(*words: object) -> tuple[int, str]:
        code = main([*map(str, words), "--no-progress"])
        text = "".join(capsys.readouterr())
        assert "Traceback" not in text
        return code, text

    return run


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Three videos of 14 frames with a csv of two columns beside each."""
    folder = tmp_path / "my robot"
    for number in range(3):
        movie(folder / f"push {number}.mp4", film(number))
        csv(folder / f"push {number}.csv", rows(number, 14, 2), "left,right")
    return folder


def needs(root: Path, splits: dict[str, list]) -> tuple[str, str, int]:
    """What check says of a layout with those clips: its needs, its faults, and their number."""
    for name, clips in splits.items():
        layout.write_split(root, name, clips)
    report = check(root)
    faults = " ".join(map(str, report.faults))
    assert all(f"note: {need}" in report.text() for need in report.needs)
    return " ".join(report.needs), faults, len(report.faults)


# ------------------------------------------------------------------------------- what is missing


def test_check_says_which_splits_training_and_evaluation_miss(tmp_path, make_clip) -> None:
    def clips(*numbers: int, frames: int = 12) -> list:
        return [make_clip(number, frames=frames) for number in numbers]

    three = {"train": clips(1, 2), "validate": clips(3), "test": clips(4)}
    assert needs(tmp_path / "all", three) == ("", "", 0)
    assert needs(tmp_path / "most", {"train": clips(1, 2), "test": clips(4)}) == ("", "", 0)
    text, _, faults = needs(tmp_path / "alone", {"train": clips(1, 2)})
    assert faults == 0
    assert "train is the only split: labkit train keeps a tenth" in text
    assert "labkit evaluate RUN refuses, since it takes the split test" in text
    assert "move some clips into folders called validate and test" in text
    text, _, _ = needs(tmp_path / "one", {"train": clips(1)})
    assert "train with --data.validation-split train" in text
    assert "To have one, more recordings are needed" in text
    assert "labkit evaluate RUN --split train --windows all" in text
    text, _, _ = needs(tmp_path / "two", {"train": clips(1), "test": clips(2)})
    assert "train with --data.validation-split train" in text
    assert "only split" not in text
    text, _, _ = needs(tmp_path / "no test", {"train": clips(1), "validate": clips(2)})
    assert "no split test, so evaluate with labkit evaluate RUN --split validate" in text
    text, _, faults = needs(tmp_path / "no train", {"test": clips(1)})
    assert faults == 0
    assert f"labkit evaluate RUN --data '{tmp_path / 'no train'}'" in text
    write_pack(tmp_path / "pack", {"train": clips(1, 2)}, "noise")
    (need,) = check(tmp_path / "pack").needs
    assert "convert again with --split 0.8,0.1,0.1" in need


def test_folders_that_are_no_splits_are_a_fault(tmp_path, make_clip) -> None:
    _, text, faults = needs(tmp_path, {"push 1": [make_clip(1)], "push 2": [make_clip(2)]})
    assert faults == 1
    assert "has no split train, validate or test, but push 1, push 2" in text
    assert "make the folders train, validate and test" in text


def test_clips_that_are_too_short_are_told_with_a_window_that_fits(tmp_path, make_clip) -> None:
    def set_of(**lengths: int) -> dict[str, list]:
        return {name: [make_clip(n + length * 9, frames=length) for n in range(2)]
                for name, length in lengths.items()}  # fmt: skip

    root = tmp_path / "short"
    text, _, faults = needs(root, set_of(train=8, test=7))
    assert faults == 0
    assert "no clip of train or test has 12 frames (2 of context and 10 to predict)" in text
    assert "--data.n-past 2 --data.n-future 5" in text
    assert check(root).text().endswith("\nno faults, but training or evaluation needs more: "
                                       "see the notes")  # fmt: skip
    with pytest.raises(DataError, match=r"--data\.n-past 2 --data\.n-future 6"):
        ClipDataset(root, "train")
    assert ClipDataset(root, "train", n_past=2, n_future=5).n_clips == 2
    text, _, _ = needs(tmp_path / "test alone", set_of(train=12, test=2))
    assert "no clip of test has 12 frames" in text
    assert "--data.n-past 1 --data.n-future 1" in text
    write_pack(tmp_path / "some", {"train": [make_clip(1), make_clip(2, frames=13)]}, "noise")
    (note, *_) = [each for each in check(tmp_path / "some").notes if "4 to 13 frames" in each]
    assert "; 1 of 2 have fewer than 12" in note
    _, text, faults = needs(tmp_path / "pictures", set_of(train=12, test=1))
    assert faults == 1
    assert "no clip of test has two frames: there is nothing to predict" in text


def test_the_command_for_an_evaluation_names_a_split_that_is_there(tmp_path, make_clip) -> None:
    run, command = tmp_path / "run", f"labkit evaluate {tmp_path / 'run'}"
    assert evaluation_of(run, tmp_path / "nowhere") == command
    for name, option in (("train", " --split train"), ("val", " --split validate"), ("test", "")):
        layout.write_split(tmp_path / "data", name, [make_clip()])
        assert evaluation_of(run, tmp_path / "data") == command + option


def test_a_training_ends_with_an_evaluation_that_works(tmp_path: Path, make_clip, said) -> None:
    for place, name in enumerate(["train", "validate"]):
        clips = [make_clip(n + 9 * place, frames=5, height=32, width=32) for n in range(2)]
        layout.write_split(tmp_path / "data", name, clips)
    run = tmp_path / "run"
    words = ["--data.root", tmp_path / "data", "--out", run, "--data.n-future", 3, "--threads", 1]
    words += ["--model.frame-size", 32, "--training.epochs", 1, "--training.updates-per-epoch", 1]
    code, text = said("train", "smoke", *words, "--no-tensorboard")
    assert code == 0, text
    assert text.endswith(f"next: labkit evaluate {run} --split validate\n")
    code, text = said("evaluate", run)
    assert code == 2
    assert "no split 'test' (there are: train, validate; to use another one: --split validate)" in (
        text
    )


# ------------------------------------------------------------------------------- pictures and rows


def pictures(folder: Path, count: int, first: int, actions: int) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"frame_{number + first:04}.png")
    csv(folder / "actions.csv", rows(0, actions, 2))
    return folder


@pytest.mark.parametrize("first", [0, 1])
def test_rows_that_are_missing_are_not_missing_frames(tmp_path: Path, first: int) -> None:
    folder = pictures(tmp_path / "train" / "0", 40, first, 30)
    with pytest.raises(DataError, match=r"has 30 rows for 40 frames .*10 rows missing") as caught:
        layout.read_clip(folder)
    assert (caught.value.file, caught.value.row) == (folder / "actions.csv", 31)
    (fault,) = check(tmp_path).faults
    assert fault.file == folder / "actions.csv"


def test_frames_that_are_missing_stay_missing_frames(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "0", 12, 1, 12)
    (folder / "frame_0007.png").unlink()
    with pytest.raises(DataError, match="frame is missing") as caught:
        layout.read_clip(folder)
    assert caught.value.file == folder / "frame_0007.png"
    (folder / "frame_0012.png").unlink()
    folder = pictures(tmp_path / "1", 5, 0, 8)
    with pytest.raises(DataError, match=r"actions\.csv has 8 rows for 5 frames") as caught:
        layout.read_clip(folder)
    assert caught.value.file == folder / "frame_0005.png"


# ------------------------------------------------------------------------------- convert


def test_a_wrong_camera_is_answered_with_those_there_are(tmp_path: Path, said) -> None:
    file = tmp_path / "demo.hdf5"
    with h5py.File(file, "w") as opened:
        demo = opened.create_group("data/demo_0")
        demo["actions"], demo["obs/object"] = rows(0, 14, 7), rows(0, 14, 3)
        demo["obs/agentview_image"] = demo["obs/wrist_image"] = film()
    for camera in ("top", "object"):
        code, text = said("data", "convert", file, tmp_path / "out", "--camera", camera)
        assert code == 2
        assert f"{file}: demo_0 has no camera {camera} (--camera takes one of these: " in text
        assert "agentview_image, wrist_image)" in text
        assert text.count(str(file)) == 1
        assert "damaged" not in text
    code, text = said("data", "convert", file, tmp_path / "out", "--state", "pose")
    assert "demo_0 has no state pose (--state takes one of these: object)" in text
    with h5py.File(file, "w") as opened:
        opened["x"] = np.zeros(3)
    code, text = said("data", "convert", file, tmp_path / "out")
    assert "has no array of pictures" in text
    assert "not an hdf5 file" not in text
    with h5py.File(file, "w") as opened:
        opened["len/0"], opened["0/0"] = 1, film()[0]
    code, text = said("data", "convert", file, tmp_path / "out", "--camera", "top")
    assert (code, "leave --camera out" in text) == (2, True)


@pytest.mark.parametrize("option", ["camera", "state"])
def test_videos_have_no_cameras_to_choose(videos: Path, said, option: str) -> None:
    for source in (videos, videos / "push 0.mp4"):
        code, text = said("data", "convert", source, videos.parent / "out", f"--{option}", "top")
        assert code == 2
        assert f"there is no {option} to choose (leave --{option} out" in text


def test_a_size_that_no_model_takes_is_refused_with_the_nearest(videos: Path, said) -> None:
    for size in range(16, 200):
        try:
            ModelConfig(frame_size=size)
            assert size in FRAME_SIZES
            Pictures(resize=size)
        except ConfigError:
            assert size not in FRAME_SIZES
    for size, nearest in (("50", "48 or 64"), ("16", "32"), ("224", "128")):
        code, text = said("data", "convert", videos, videos.parent / "out", "--resize", size)
        assert code == 2
        assert f"--resize is {size}: no model takes" in text
        assert f"takes: {nearest}; 0 keeps the size" in text


def test_a_copy_in_a_pack_has_advice_that_works(tmp_path: Path, make_clip) -> None:
    write_pack(tmp_path / "pack", {"train": [make_clip(1)], "test": [make_clip(1)]}, "noise")
    (fault,) = check(tmp_path / "pack").faults
    assert "--fix" not in str(fault)
    assert "remove it from the recordings that the pack was made of" in str(fault)
    for name in ("train", "test"):
        layout.write_split(tmp_path / "folders", name, [make_clip(1)])
    (fault,) = check(tmp_path / "folders").faults
    assert "labkit data check ROOT --fix OUT" in str(fault)


@pytest.mark.parametrize("inside", ["", "train", "train/monday"])
@pytest.mark.parametrize("tables", [True, False])
@pytest.mark.parametrize("ending", [".mp4", ".MP4"])
def test_videos_are_sent_to_convert(tmp_path: Path, said, inside, tables, ending) -> None:
    root = tmp_path / "my robot"
    (root / inside).mkdir(parents=True)
    (root / inside / f"push 0{ending}").write_bytes(b"any")
    if tables:
        csv(root / inside / "push 0.csv", rows(0, 14, 2))
    for command in (("data", "check", root), ("train", "smoke", "--data.root", root)):
        words = ("--out", tmp_path / "run") if command[0] == "train" else ()
        code, text = said(*command, *words)
        assert code in (1, 2)
        assert re.search(r"holds videos.*labkit data convert", text)
        assert "push 0" in text


def test_a_video_itself_is_sent_to_convert(videos: Path, said) -> None:
    code, text = said("data", "check", videos / "push 0.mp4")
    assert code == 2
    assert f"convert it first: labkit data convert '{videos / 'push 0.mp4'}' OUT" in text


def test_zips_are_to_be_unpacked_into_one_folder(tmp_path: Path, said) -> None:
    (tmp_path / "parts").mkdir()
    for name in ("videos-001.zip", "videos-002.zip"):
        (tmp_path / "parts" / name).write_bytes(b"PK\5\6" + bytes(18))
    code, text = said("data", "convert", tmp_path / "parts" / "videos-001.zip", tmp_path / "out")
    assert code == 2
    assert "unpack it first, and give the folder" in text
    assert "all of them into one folder" in text
    code, text = said("data", "convert", tmp_path / "parts", tmp_path / "out")
    assert "unpack the archives in it, such as videos-001.zip, all of them into one folder" in text


def test_a_csv_that_is_missing_is_named(videos: Path, said) -> None:
    (videos / "push 1.csv").rename(videos.parent / "kept.csv")
    code, text = said("data", "convert", videos, videos.parent / "out")
    assert code == 2
    assert f"{videos / 'push 1.csv'}: no such file: push 1.mp4 has no actions" in text
    assert f"{videos / 'push 0.csv'} is there" in text
    (videos / "push 0.csv").unlink()  # now the first has none, and the last has one
    _, text = said("data", "convert", videos, videos.parent / "out")
    assert f"{videos / 'push 0.csv'}: no such file" in text
    csv(videos / "push 0.csv", rows(0, 14, 2), "left,right")
    csv(videos / "push 1.csv", rows(0, 14, 1), "left")
    _, text = said("data", "convert", videos, videos.parent / "out")
    assert f"{videos / 'push 1.csv'}: has 1 column of actions, and {videos / 'push 0.csv'} has 2"


def test_arrays_that_are_not_read_are_named(tmp_path: Path, said) -> None:
    frames = np.stack([film(n) for n in range(3)])
    arrays = {"images": frames, "acts": np.zeros((3, 14, 2)), "lengths": np.full(3, 14)}
    np.savez(tmp_path / "a.npz", **arrays)
    with h5py.File(tmp_path / "a.hdf5", "w") as opened:
        for name, values in arrays.items():
            opened[name] = values
    for source in ("a.npz", "a.hdf5"):
        code, text = said("data", "convert", tmp_path / source, tmp_path / "out")
        assert code == 0
        assert "note: not read: acts (actions are read from an array called action" in text


def test_an_empty_folder_is_called_one(tmp_path: Path, said) -> None:
    (tmp_path / "empty").mkdir()
    for command in ("check", "convert"):
        out = [tmp_path / "out"] if command == "convert" else []
        code, text = said("data", command, tmp_path / "empty", *out)
        assert code == 2
        assert f"{tmp_path / 'empty'}: is an empty folder" in text


def test_a_folder_that_lies_too_deep_is_told(videos: Path, tmp_path: Path, said) -> None:
    deep = tmp_path / "root" / "a" / "b" / "c" / "d"
    deep.parent.mkdir(parents=True)
    videos.rename(deep)
    code, text = said("data", "convert", tmp_path / "root", tmp_path / "out")
    assert code == 2
    assert "files are looked for in 3 folders below this one" in text


def test_a_missing_part_of_the_condition_is_told_as_an_option(tmp_path: Path, make_clip) -> None:
    clip = make_clip(1, frames=12, positions=False)
    layout.write_split(tmp_path / "a", "train", [clip])
    with pytest.raises(DataError, match=r"no positions .*: --data\.condition action\)"):
        ClipDataset(tmp_path / "a", "train")
    bare = dataclasses.replace(clip, actions=np.zeros((12, 0), np.float32))
    layout.write_split(tmp_path / "b", "train", [bare])
    words = r"no actions .*: --data\.condition none --model\.conditioning input"
    with pytest.raises(DataError, match=words):
        ClipDataset(tmp_path / "b", "train")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--fps 5 --stride 2", "--fps 5 and --stride 2 cannot be used together .*give one"),
        ("--fps 0", "--fps is 0 .*more than 0"),
        ("--split 0,0,1", "--split is 0,0,1: nothing is left to train on .*share is that of train"),
        ("--split 80,10,10", "--split is 80,10,10: the shares add up to 100 .*0.8,0.1,0.1"),
        ("--split=-1,1,1", "--split is -1,1,1: a share is below 0"),
        ("--split 0.8,0.2", "give 3 numbers .*: the shares of train, validate and test"),
        ("--crop 1,2", "give 4 numbers .*: x, y, width and height"),
    ],
)
def test_options_that_do_not_fit_are_told_plainly(
    videos: Path, said, words: str, says: str
) -> None:
    code, text = said("data", "convert", videos, videos.parent / "out", *words.split())
    assert code == 2
    assert re.search(says, text), text


def test_one_recording_is_one_recording(tmp_path: Path, said) -> None:
    movie(tmp_path / "my" / "a.mp4", film())
    csv(tmp_path / "my" / "a.csv", rows(0, 13, 2))
    _, text = said("data", "convert", tmp_path / "my", tmp_path / "out")
    assert "1 recording has one action row fewer" in text
    _, text = said("data", "convert", tmp_path / "my", tmp_path / "out", "--split", "0.5,0,0.5")
    assert "has 1 recording for 2 splits" in text
    assert "--split 1,0,0" in text


def test_clips_that_are_left_out_are_told_once(tmp_path: Path, make_clip, caplog) -> None:
    layout.write_split(tmp_path, "train", [make_clip(1, frames=4), make_clip(2, frames=9)])
    for _ in range(3):
        ClipDataset(tmp_path, "train", n_past=2, n_future=4)
    assert caplog.text.count("1 of 2 clips of train has fewer than 6 frames and is left out") == 1


def test_nothing_that_a_user_reads_speaks_of_films() -> None:
    package = Path(layout.__file__).parents[1]
    for file in [*package.rglob("*.py"), *(package.parent / "cli").rglob("*.py")]:
        if "simulator" not in file.parts:
            assert not re.search(r"\b[Ff]ilms?\b", file.read_text(encoding="utf-8")), file
