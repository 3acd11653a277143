"""Recordings of other programs -> clips: each form is written by that program's own library, and
read back; broken, it is one sentence that names the file."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from pathlib import Path

import av
import h5py
import imageio.v3 as iio
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bair_records import features, write_records
from PIL import Image

from labkit.cli import main
from labkit.data.check import check
from labkit.data.convert import convert
from labkit.data.convert import recording as module
from labkit.data.convert.recording import Pictures, Recording, in_splits
from labkit.data.dataset import ClipDataset
from labkit.data.pack import open_pack
from labkit.errors import DataError

FETCHPUSH = Path(__file__).parents[2] / "../shared/data/fetchpush_sample.npz"


def film(number: int = 0, frames: int = 14, height: int = 64, width: int = 64) -> np.ndarray:
    """A bright square that moves over a smooth pattern: uint8 (frames, height, width, 3)."""
    random = np.random.default_rng(number)
    coarse = random.integers(40, 160, (height // 16, width // 16, 3), np.uint8)
    made = np.repeat(coarse.repeat(16, 0).repeat(16, 1)[None], frames, axis=0)
    for t in range(frames):
        made[t, 8:24, 4 + 2 * t : 16 + 2 * t] = (250, 240, 20)
    return made


def movie(file: Path, frames: np.ndarray, fps: int = 10) -> None:
    """Writes a film by ffmpeg's own libraries."""
    file.parent.mkdir(parents=True, exist_ok=True)
    codec = {".webm": "libvpx-vp9", ".avi": "mpeg4"}.get(file.suffix, "libx264")
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def near(frames: np.ndarray, truth: np.ndarray, most: float) -> bool:
    """Whether pictures (T, 3, H, W) are those (T, H, W, 3), each to that mean difference, and each
    nearer to its own than to the next."""
    read = frames.transpose(0, 2, 3, 1).astype(float)
    own = np.abs(read - truth).mean((1, 2, 3))
    other = np.abs(read[:-1] - truth[1:]).mean((1, 2, 3))
    return bool((own < most).all() and (own[:-1] < other).all())


def rows(number: int, count: int, columns: int) -> np.ndarray:
    return np.random.default_rng(100 + number).normal(size=(count, columns)).astype(np.float32)


def csv(file: Path, values: np.ndarray, header: str = "") -> None:
    np.savetxt(file, values, delimiter=",", header=header, comments="", fmt="%.9g")


def fails(source: Path, words: str, **options: object) -> DataError:
    """The error of a conversion, which leaves nothing."""
    out = source.parent / "fails"
    with pytest.raises(DataError, match=words) as caught:
        convert(source, out, **options)
    assert not out.exists()
    assert not list(source.parent.glob(".fails*"))
    assert not list(source.parent.glob(".labkit-*"))
    assert "\n" not in str(caught.value)
    return caught.value


# ------------------------------------------------------------------------------- films


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Five films of several kinds and lengths, with a csv beside each."""
    folder = tmp_path / "films"
    folder.mkdir()
    for number, ending in enumerate(["mp4", "avi", "webm", "mp4", "gif"]):
        frames = film(number, 14 + number)
        file = folder / f"push {number}.{ending}"
        if ending == "gif":
            iio.imwrite(file, frames, duration=200, loop=0)
        else:
            movie(file, frames)
        csv(folder / f"push {number}.csv", rows(number, 14 + number, 2), "left,right")
    return folder


def test_a_folder_of_films(films: Path, tmp_path: Path) -> None:
    summary = convert(films, tmp_path / "out")
    assert summary["splits"] == {"train": 3, "validate": 1, "test": 1}
    assert summary["frames"] == (14, 18)
    assert summary["columns"] == {"actions": ("left", "right"), "positions": ()}
    pack = open_pack(tmp_path / "out")
    read = {name: pack.split(name).clip(0) for name in pack.splits}
    for name, number in (("train", 0), ("validate", 3), ("test", 4)):
        assert read[name].name == f"push {number}"
        assert near(read[name].frames, film(number, 14 + number), 8)
        np.testing.assert_array_equal(read[name].actions, rows(number, 14 + number, 2))
    report = check(tmp_path / "out")
    assert report.ok, report.text()
    dataset = ClipDataset(tmp_path / "out", "train", condition="action")
    assert (len(dataset), dataset.condition_size) == (3 + 4 + 5, 2)
    convert(films, tmp_path / "layout", to="layout")
    folders = ClipDataset(tmp_path / "layout", "train", condition="action", source="folders")
    assert folders.action_columns == ("left", "right")
    assert (folders[5][0] == dataset[5][0]).all()


def test_films_in_folders_of_splits_with_two_tables_or_none(tmp_path: Path) -> None:
    for number, place in enumerate(["train/a", "train/b", "val/c"]):
        folder = tmp_path / "films" / place
        folder.mkdir(parents=True)
        iio.imwrite(folder / "camera.gif", film(number), duration=100, loop=0)
        csv(folder / "actions.csv", rows(number, 13, 6))
        csv(folder / "camera_positions.csv", rows(9, 14, 2))
    summary = convert(tmp_path / "films", tmp_path / "out")
    assert summary["splits"] == {"train": 2, "validate": 1}
    assert "3 recordings have one action row fewer than frames" in summary["notes"][0]
    clip = open_pack(tmp_path / "out").split("train").clip(1)
    np.testing.assert_array_equal(clip.actions, rows(1, 13, 6)[[*range(13), 12]])
    np.testing.assert_array_equal(clip.positions, rows(9, 14, 2))
    iio.imwrite(tmp_path / "alone.gif", film(), duration=100, loop=0)
    summary = convert(tmp_path / "alone.gif", tmp_path / "alone")
    assert (summary["splits"], summary["columns"]["actions"]) == ({"train": 1}, ())
    assert len(ClipDataset(tmp_path / "alone", "train", condition="none")) == 3


def test_size_and_rate_of_films(tmp_path: Path) -> None:
    frames = film(0, 20, 96, 160)
    movie(tmp_path / "a.mp4", frames, 20)
    csv(tmp_path / "a.csv", rows(0, 20, 4))

    def read(name: str, **options: object) -> tuple[dict, np.ndarray, np.ndarray]:
        summary = convert(tmp_path / "a.mp4", tmp_path / name, pictures=Pictures(**options))
        clip = open_pack(tmp_path / name).split("train").clip(0)
        return summary, clip.frames, clip.actions

    summary, kept, actions = read("a", stride=3)
    assert summary["notes"] == ["frames of 160x96 were scaled to 64x64 (the middle square)"]
    np.testing.assert_array_equal(actions, rows(0, 20, 4)[::3])
    middle = np.stack(
        [np.asarray(Image.fromarray(f[:, 32:128]).resize((64, 64), 1)) for f in frames[::3]]
    )
    assert np.abs(kept.transpose(0, 2, 3, 1).astype(float) - middle).mean() < 4
    assert read("b", fps=5)[1].shape == (5, 3, 64, 64)
    assert read("c", crop=(10, 20, 48, 32), resize=0)[1].shape == (20, 3, 32, 48)
    padded = read("d", pad=True)[1]
    assert padded[:, :, :10].max() < 30
    assert padded[:, :, 20:40].mean() > 50
    words = "20 frames a second, no multiple of 7 .*--fps 6.667"
    fails(tmp_path / "a.mp4", words, pictures=Pictures(fps=7))
    fails(tmp_path / "a.mp4", "frames of 160x96", pictures=Pictures(crop=(100, 0, 64, 64)))
    for wrong in ({"stride": 0}, {"fps": -1}, {"resize": 3}, {"crop": (0, 0, 0, 1)}):
        with pytest.raises(DataError, match=f"--{next(iter(wrong))} is"):
            Pictures(**wrong)


def test_broken_films(films: Path, tmp_path: Path) -> None:
    (films / "push 1.avi").write_bytes(b"RIFF" + bytes(2000))
    assert fails(films, "not a video that ffmpeg can read").file == films / "push 1.avi"
    (films / "push 1.avi").unlink()
    error = fails(films, "belongs to no video.*name it like its video, or move it away")
    assert error.file == films / "push 1.csv"  # its rows would be lost
    (films / "push 1.csv").rename(films / "PUSH 0.csv")
    error = fails(films, r"belongs to no video.*rename it like push 0\.mp4")
    assert error.file == films / "PUSH 0.csv"
    (films / "PUSH 0.csv").unlink()
    csv(films / "push 2.csv", rows(2, 9, 2), "left,right")
    error = fails(films, r"has 9 rows of actions for 16 frames of push 2\.webm")
    assert error.file == films / "push 2.csv"
    (films / "push 2.webm").unlink()
    (films / "push 2.csv").unlink()
    csv(films / "push 3.csv", rows(3, 17, 2), "right,left")
    words = r"has the actions right, left, and .*push 0\.csv has left, right.*in the same order"
    assert fails(films, words).file == films / "push 3.csv"
    csv(films / "push 3.csv", rows(3, 17, 3), "a,b,c")
    words = r"has 3 columns of actions, and .*push 0\.csv has 2"
    assert fails(films, words).file == films / "push 3.csv"
    (films / "push 3.csv").unlink()
    words = r"push 3\.mp4 has no actions, and .*push 0\.csv is there"
    assert fails(films, words).file == films / "push 3.csv"
    (tmp_path / "empty").mkdir()
    fails(tmp_path / "empty", "is an empty folder")
    (tmp_path / "empty" / "notes.txt").write_text("any")
    fails(tmp_path / "empty", "holds no .tfrecords files, videos or .hdf5 files")
    csv(films / "push 0_actions.csv", rows(0, 14, 2))
    fails(films, "two files of actions: push 0.csv and push 0_actions.csv")


# ------------------------------------------------------------------------------- splits


def split_of(count: int, shares: tuple[float, ...] | None) -> list[int]:
    recordings = [Recording(str(n), lambda: None) for n in range(count)]
    found = in_splits(recordings, shares, Path("x"))
    assert [r.name for each in found.values() for r in each] == [str(n) for n in range(count)]
    return [len(found.get(name, [])) for name in ("train", "validate", "test")]


def test_recordings_are_divided_by_shares() -> None:
    assert split_of(100, (0.7, 0.2, 0.1)) == [70, 20, 10]
    assert split_of(10, None) == [8, 1, 1]
    assert split_of(3, None) == [1, 1, 1]
    assert split_of(2, None) == [2, 0, 0]
    assert split_of(2, (0.9, 0, 0.1)) == [1, 0, 1]
    assert split_of(5, (1, 0, 0)) == [5, 0, 0]
    for shares, words in (
        ((0.5, 0.1, 0.1), "shares that add up to 1"),
        ((1.5, -0.5, 0), "shares that add up to 1"),
        ((0.8, 0.1, 0.1), "2 recordings for 3 splits .*never divided"),
    ):
        with pytest.raises(DataError, match=words):
            split_of(2, shares)


def test_the_command(films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "convert", str(films), str(tmp_path / "out"), "--no-progress"]
    assert main([*words, "--split", "0.6,0.2,0.2", "--by", "recording", "--stride", "2"]) == 0
    said = capsys.readouterr().out
    assert "actions: left, right\npositions: none\n" in said
    assert "3 train, 1 validate, 1 test clips" in said
    assert main([*words, "--split", "0.6,0.4"]) == 2
    assert "--split is 0.6,0.4 (give 3 numbers" in capsys.readouterr().err
    assert main([*words, "--crop", "a,b,c,d"]) == 2


# ------------------------------------------------------------------------------- arrays


def test_arrays_of_many_recordings(tmp_path: Path) -> None:
    frames = np.stack([film(n) for n in range(4)])
    values = {"frames": frames, "actions": rows(0, 52, 5).reshape(4, 13, 5)}
    np.savez(tmp_path / "a.npz", **values, states=rows(1, 56, 9).reshape(4, 14, 9))
    convert(tmp_path / "a.npz", tmp_path / "out")
    split = open_pack(tmp_path / "out").split("train")
    assert len(split) == 2
    np.testing.assert_array_equal(split.clip(1).frames.transpose(0, 2, 3, 1), frames[1])
    np.testing.assert_array_equal(split.clip(1).actions[:13], values["actions"][1])
    assert split.position_columns[-1] == "position_9"
    np.save(tmp_path / "c.npy", frames.transpose(0, 1, 4, 2, 3) / 255)
    convert(tmp_path / "c.npy", tmp_path / "c", split=(0.5, 0.25, 0.25))
    clip = open_pack(tmp_path / "c").split("test").clip(0)
    np.testing.assert_array_equal(clip.frames.transpose(0, 2, 3, 1), frames[3])


def test_the_lengths_of_arrays(tmp_path: Path) -> None:
    frames = np.stack([film(n) for n in range(3)])
    actions = rows(0, 42, 2).reshape(3, 14, 2)
    np.savez(tmp_path / "a.npz", images=frames, action=actions, lengths=np.array([14, 12, 3]))
    assert convert(tmp_path / "a.npz", tmp_path / "out")["frames"] == (3, 14)
    clip = open_pack(tmp_path / "out").split("validate").clip(0)
    np.testing.assert_array_equal(clip.actions, actions[1, :12])
    np.savez(tmp_path / "b.npz", images=frames, lengths=np.array([14, 12, 15]))
    fails(tmp_path / "b.npz", "lengths reach from 12 to 15")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"x": np.zeros(3)}, r"no array of pictures .*its arrays: x"),
        ({"frames": np.zeros((2, 4, 8, 8), np.uint8)}, r"shape \(2, 4, 8, 8\)|expected"),
        ({"frames": np.full((1, 4, 8, 8, 3), 300)}, "from 300 to 300"),
        ({"frames": np.full((1, 4, 8, 8, 3), np.nan)}, "holds float64 from nan"),
        (
            {"frames": np.zeros((2, 4, 8, 8, 3), np.uint8), "action": np.zeros((2, 2, 1))},
            r"action has shape \(2, 2, 1\) .*expected \(2, 4, columns\)",
        ),
        (
            {"frames": np.zeros((1, 4, 8, 8, 3), np.uint8), "action": np.full((1, 4, 1), np.inf)},
            "actions of frame 0 are not all finite",
        ),
    ],
)
def test_broken_arrays(tmp_path: Path, values: dict, words: str) -> None:
    np.savez(tmp_path / "a.npz", **values)
    fails(tmp_path / "a.npz", words)
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:200])
    fails(tmp_path / "b.npz", "is not a readable .npz file")


@pytest.mark.skipif(not FETCHPUSH.is_file(), reason="the shared sample is not here")
def test_another_simulators_robot(tmp_path: Path) -> None:
    summary = convert(FETCHPUSH, tmp_path / "out")
    assert summary["splits"] == {"train": 4, "validate": 1, "test": 1}
    with np.load(FETCHPUSH) as arrays:
        clip = open_pack(tmp_path / "out").split("test").clip(0)
        np.testing.assert_array_equal(clip.frames.transpose(0, 2, 3, 1), arrays["aux1_image"][5])
        np.testing.assert_array_equal(clip.actions, arrays["action"][5].astype(np.float32))


# ------------------------------------------------------------------------------- hdf5


def test_robomimics_hdf5(tmp_path: Path) -> None:
    file = tmp_path / "demo.hdf5"
    with h5py.File(file, "w") as opened:
        for n in range(3):
            demo = opened.create_group(f"data/demo_{n}")
            demo["actions"] = rows(n, 14 + n, 7)
            demo["obs/agentview_image"] = film(n, 14 + n)
            demo["obs/robot0_eye_in_hand_image"] = film(9, 14 + n)
            demo["obs/robot0_eef_pos"] = rows(n + 9, 14 + n, 3)
            demo["obs/object"] = rows(n + 19, 14 + n, 10)
        opened["mask/train"] = np.array([b"demo_0", b"demo_2"])
        opened["mask/valid"] = np.array([b"demo_1"])
    assert convert(file, tmp_path / "out")["splits"] == {"train": 2, "validate": 1}
    clip = open_pack(tmp_path / "out").split("validate").clip(0)
    np.testing.assert_array_equal(clip.frames.transpose(0, 2, 3, 1), film(1, 15))
    np.testing.assert_array_equal(clip.actions, rows(1, 15, 7))
    np.testing.assert_array_equal(clip.positions, rows(10, 15, 3))
    convert(file, tmp_path / "b", camera="robot0_eye_in_hand_image", state="object")
    clip = open_pack(tmp_path / "b").split("train").clip(1)
    np.testing.assert_array_equal(clip.frames.transpose(0, 2, 3, 1), film(9, 16))
    assert clip.positions.shape == (16, 10)
    fails(file, "no camera top .*agentview_image, robot0_eye_in_hand_image", camera="top")
    fails(file, "has no state pose .*object, robot0_eef_pos", state="pose")
    fails(file, "has splits of its own", split=(0.8, 0.1, 0.1))
    with h5py.File(file, "a") as opened:
        del opened["data/demo_1/obs/agentview_image"]
        del opened["data/demo_1/obs/robot0_eye_in_hand_image"]
    fails(file, "demo_1 has no pictures .*robomimic's dataset_states_to_obs")


def test_mcvds_hdf5(tmp_path: Path) -> None:
    file = tmp_path / "shard_0001.hdf5"
    with h5py.File(file, "w") as opened:
        opened.create_group("videos")
        for n in range(11):
            opened[f"len/{n}"] = 12 + n
            for t, frame in enumerate(film(n, 12 + n)):
                opened.create_dataset(f"{n}/{t}", data=frame, compression="lzf")
    assert convert(file, tmp_path / "out")["splits"] == {"train": 9, "validate": 1, "test": 1}
    clip = open_pack(tmp_path / "out").split("test").clip(0)
    np.testing.assert_array_equal(clip.frames.transpose(0, 2, 3, 1), film(10, 22))
    assert clip.actions.shape == (22, 0)
    with h5py.File(file, "a") as opened:
        del opened["3/5"]
    fails(file, "3 cannot be read")


def test_videogpts_hdf5(tmp_path: Path) -> None:
    file = tmp_path / "bair.hdf5"
    with h5py.File(file, "w") as opened:
        for split, numbers in (("train", range(3)), ("test", range(3, 5))):
            opened[f"{split}_data"] = np.concatenate([film(n, 12) for n in numbers])
            opened[f"{split}_idx"] = np.arange(len(numbers)) * 12
    assert convert(file, tmp_path / "out")["splits"] == {"train": 3, "test": 2}
    clip = open_pack(tmp_path / "out").split("test").clip(1)
    np.testing.assert_array_equal(clip.frames.transpose(0, 2, 3, 1), film(4, 12))


def test_broken_hdf5(tmp_path: Path) -> None:
    file = tmp_path / "a.hdf5"
    file.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(2000))
    fails(file, "is not readable as hdf5")
    with h5py.File(file, "w") as opened:
        opened.create_group("something")
    fails(file, "of no known form .*its groups: something")
    with h5py.File(file, "w") as opened:
        opened["frames"] = np.stack([film(n) for n in range(3)])
        opened["actions"] = rows(0, 42, 4).reshape(3, 14, 4)
    assert convert(file, tmp_path / "out")["clips"] == 3
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    fails(file, "is not readable as hdf5|cannot be read")


# ------------------------------------------------------------------------------- episodes


def encoded(frame: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, format=kind, quality=95)
    return stream.getvalue()


def prepared(number: int) -> dict:
    """BAIR's features as tensorflow_datasets stores them."""
    return {
        "image_aux1": ([encoded(f) for f in film(number, 30)], "byte"),
        "image_main": ([encoded(f) for f in film(50 + number, 30)], "byte"),
        "action": (rows(number, 30, 4).reshape(-1), "float"),
        "endeffector_pos": (rows(9, 30, 3).reshape(-1), "float"),
    }


def test_bair_as_tensorflow_datasets_prepares_it(tmp_path: Path) -> None:
    folder = tmp_path / "2.0.0"
    for shard in range(2):
        name = f"bair_robot_pushing_small-train.tfrecord-0000{shard}-of-00002"
        write_records(folder / name, [prepared(2 * shard), prepared(2 * shard + 1)])
    test = folder / "bair_robot_pushing_small-test.tfrecord-00000-of-00001"
    write_records(test, [prepared(7)])
    (folder / "dataset_info.json").write_text("{}")
    assert convert(folder, tmp_path / "out")["splits"] == {"train": 4, "test": 1}
    pack = open_pack(tmp_path / "out")
    assert pack.manifest["version"] == 1
    for split, place, number in (("train", 3, 3), ("test", 0, 7)):
        clip = pack.split(split).clip(place)
        np.testing.assert_array_equal(clip.frames.transpose(0, 2, 3, 1), film(number, 30))
        np.testing.assert_array_equal(clip.actions, rows(number, 30, 4))
        np.testing.assert_array_equal(clip.positions, rows(9, 30, 3))
    convert(test, tmp_path / "main", camera="main")
    clip = open_pack(tmp_path / "main").split("test").clip(0)
    np.testing.assert_array_equal(clip.frames.transpose(0, 2, 3, 1), film(57, 30))
    fails(test, "no pictures called top .*image_aux1, image_main", camera="top")
    broken = prepared(0)
    broken["action"] = (broken["action"][0][:-1], "float")
    write_records(test, [broken])
    fails(folder, "has 119 numbers in action for 30 pictures")
    broken = prepared(0)
    broken["image_aux1"][0][4] = broken["image_aux1"][0][4][:90]
    write_records(test, [broken])
    fails(folder, "picture 4 cannot be decoded")
    test.write_bytes(test.read_bytes()[:-7])
    fails(folder, "ends within record 1")


def episode(number: int, length: int) -> dict:
    """An RLDS episode, as tensorflow_datasets flattens it."""
    made = {
        "steps/observation/image": ([encoded(f, "JPEG") for f in film(number, length)], "byte"),
        "steps/observation/wrist_image": ([encoded(f) for f in film(90, length)], "byte"),
        "steps/observation/state": (rows(number, length, 8).reshape(-1), "float"),
        "steps/action/world_vector": (rows(1, length, 3).reshape(-1), "float"),
        "steps/action/gripper": (rows(2, length, 1).reshape(-1), "float"),
        "steps/is_first": ([1] + [0] * (length - 1), "int"),
        "steps/language_instruction": ([b"push the cube"] * length, "byte"),
        "episode_metadata/file_path": ([b"/data/1"], "byte"),
    }
    return made


def test_rlds_episodes(tmp_path: Path) -> None:
    file = tmp_path / "set" / "fractal-train.tfrecord-00000-of-00001"
    write_records(file, [episode(n, 12 + n) for n in range(4)])
    summary = convert(tmp_path / "set", tmp_path / "out")
    assert summary["splits"] == {"train": 2, "validate": 1, "test": 1}
    names = ("gripper", "world_vector_1", "world_vector_2", "world_vector_3")
    assert summary["columns"]["actions"] == names
    clip = open_pack(tmp_path / "out").split("test").clip(0)
    assert near(clip.frames, film(3, 15), 8)
    np.testing.assert_array_equal(clip.positions, rows(3, 15, 8))
    np.testing.assert_array_equal(clip.actions[:, 1:], rows(1, 15, 3))
    convert(file, tmp_path / "wrist", camera="wrist_image", state="is_first")
    clip = open_pack(tmp_path / "wrist").split("train").clip(0)
    assert near(clip.frames, film(90, 12), 1)
    assert clip.positions[:2].tolist() == [[1], [0]]
    fails(file, "has no feature pose", state="pose")
    write_records(file, [{"steps/action": (rows(0, 4, 4).reshape(-1), "float")}])
    fails(file, "has no pictures")


def test_records_that_gzip_compressed(tmp_path: Path, bair: Path) -> None:
    """Known by their first bytes, whatever the name; BAIR's own and others."""
    plain = tmp_path / "plain" / "train" / "traj_0_to_255.tfrecords"
    write_records(plain, [features(n) for n in range(3)])
    packed = tmp_path / "packed" / "train" / "traj_0_to_255.tfrecords"
    packed.parent.mkdir(parents=True)
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    convert(plain.parent.parent, tmp_path / "a")
    convert(packed.parent.parent, tmp_path / "b")
    one, other = (open_pack(tmp_path / name).manifest["splits"] for name in "ab")
    assert one == other
    packed.write_bytes(packed.read_bytes()[:-9])
    fails(packed.parent.parent, "is not a whole gzip file|ends within")
    episodes = tmp_path / "episodes.tfrecord"
    write_records(episodes, [episode(0, 12)])
    episodes.write_bytes(gzip.compress(episodes.read_bytes()))
    assert convert(episodes, tmp_path / "c")["clips"] == 1
    assert not list(tmp_path.glob(".labkit-*"))


# ------------------------------------------------------------------------------- LeRobot

LENGTHS = [12, 15, 13]
FEATURES = {
    "observation.images.top": {"dtype": "video", "shape": [64, 64, 3]},
    "observation.state": {"dtype": "float32", "shape": [6], "names": [*"abcdef"]},
    "action": {"dtype": "float32", "shape": [2], "names": {"motors": ["left", "right"]}},
}


def columns_of(number: int) -> dict:
    length = LENGTHS[number]
    return {
        "action": rows(number, length, 2).tolist(),
        "observation.state": rows(number + 30, length, 6).tolist(),
        "episode_index": [number] * length,
        "frame_index": list(range(length)),
        "timestamp": [n / 10 for n in range(length)],
    }


def info(root: Path, version: str, data: str, video: str, **more: object) -> None:
    (root / "meta").mkdir(parents=True, exist_ok=True)
    values = {
        "codebase_version": version,
        "fps": 10,
        "total_episodes": len(LENGTHS),
        "chunks_size": 1000,
        "data_path": data,
        "video_path": video,
        "features": FEATURES,
        "splits": {"train": "0:3"},
    }
    (root / "meta" / "info.json").write_text(json.dumps({**values, **more}))


@pytest.fixture
def version_2(tmp_path: Path) -> Path:
    root = tmp_path / "lerobot2"
    data = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    video = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    info(root, "v2.1", data, video)
    for number, length in enumerate(LENGTHS):
        place = {"episode_chunk": 0, "episode_index": number, "video_key": "observation.images.top"}
        file = root / data.format(**place)
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns_of(number)), file)
        movie(root / video.format(**place), film(number, length))
    return root


@pytest.fixture
def version_3(tmp_path: Path) -> Path:
    root = tmp_path / "lerobot3"
    key = "observation.images.top"
    data = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    video = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    info(root, "v3.0", data, video)
    tables = [pa.table(columns_of(number)) for number in range(3)]
    (root / "data/chunk-000").mkdir(parents=True)
    pq.write_table(pa.concat_tables(tables[:2]), root / "data/chunk-000/file-000.parquet")
    pq.write_table(tables[2], root / "data/chunk-000/file-001.parquet")
    joined = np.concatenate([film(n, length) for n, length in enumerate(LENGTHS)])
    movie(root / video.format(video_key=key, chunk_index=0, file_index=0), joined)
    starts = np.cumsum([0, *LENGTHS]) / 10
    listed = {
        "episode_index": [0, 1, 2],
        "length": LENGTHS,
        "data/chunk_index": [0, 0, 0],
        "data/file_index": [0, 0, 1],
        f"videos/{key}/chunk_index": [0, 0, 0],
        f"videos/{key}/file_index": [0, 0, 0],
        f"videos/{key}/from_timestamp": starts[:-1].tolist(),
        f"videos/{key}/to_timestamp": starts[1:].tolist(),
    }
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    pq.write_table(pa.table(listed), root / "meta/episodes/chunk-000/file-000.parquet")
    return root


@pytest.mark.parametrize("version", ["version_2", "version_3"])
def test_lerobots_data_sets(tmp_path: Path, version: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(version)
    summary = convert(root, tmp_path / "out")
    assert summary["splits"] == {"train": 1, "validate": 1, "test": 1}
    names = {"actions": ("left", "right"), "positions": ("a", "b", "c", "d", "e", "f")}
    assert summary["columns"] == names
    pack = open_pack(tmp_path / "out")
    for number, split in enumerate(pack.splits):
        clip = pack.split(split).clip(0)
        assert near(clip.frames, film(number, LENGTHS[number]), 8)
        np.testing.assert_array_equal(clip.actions, rows(number, LENGTHS[number], 2))
        np.testing.assert_array_equal(clip.positions, rows(number + 30, LENGTHS[number], 6))
    fails(root, "has no camera wrist .*observation.images.top", camera="wrist")
    fails(root, "has no column pose", state="pose")
    table = next((root / "data").rglob("*.parquet"))
    table.write_bytes(table.read_bytes()[:50])
    assert fails(root, "not readable as parquet").file == table
    table.unlink()
    fails(root, "no such file")
    (root / "meta/info.json").write_text("[1]")
    fails(root, "lists no features")


def test_pictures_within_lerobots_tables(version_2: Path, tmp_path: Path) -> None:
    shutil.rmtree(version_2 / "videos")
    fails(version_2, r"episode_000000.mp4: no such file")
    for number, file in enumerate(sorted((version_2 / "data").rglob("*.parquet"))):
        pictures = [{"bytes": encoded(f), "path": None} for f in film(number, LENGTHS[number])]
        table = {**columns_of(number), "observation.images.top": pictures}
        pq.write_table(pa.table(table), file)
    convert(version_2, tmp_path / "out")
    clip = open_pack(tmp_path / "out").split("test").clip(0)
    np.testing.assert_array_equal(clip.frames.transpose(0, 2, 3, 1), film(2, 13))


# ------------------------------------------------------------------------------- packages


@pytest.mark.parametrize(
    ("package", "name", "words"),
    [
        ("av", "a.mp4", "videos need the package av"),
        ("h5py", "a.hdf5", "hdf5 files need the package h5py"),
        ("pyarrow.parquet", "lerobot2", "LeRobot data sets need the package pyarrow"),
    ],
)
def test_a_missing_package_is_named(
    tmp_path: Path,
    version_2: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    name: str,
    words: str,
) -> None:
    real = module.importlib.import_module

    def without(wanted: str) -> object:
        if wanted == package:
            raise ImportError(wanted)
        return real(wanted)

    monkeypatch.setattr(module.importlib, "import_module", without)
    for made in ("a.mp4", "a.hdf5"):
        (tmp_path / made).touch()
    assert r"labkit[formats]" in str(fails(tmp_path / name, words))


# ------------------------------------------------------------------------------- damaged bytes


def sources(folder: Path) -> dict[str, bytes]:
    """A small good file of each kind that is read whole."""
    frames = np.stack([film(n, 3, 16, 16)[:, :, :16] for n in range(3)])
    np.savez(folder / "a.npz", frames=frames, actions=rows(0, 6, 2).reshape(3, 2, 2))
    np.save(folder / "a.npy", frames)
    with h5py.File(folder / "a.hdf5", "w") as opened:
        opened["frames"], opened["actions"] = frames, np.zeros((3, 3, 2))
    write_records(folder / "a.tfrecord", [episode(0, 3)])
    iio.imwrite(folder / "a.gif", frames[0], duration=100, loop=0)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def assert_mutated_are_recordings_or_our_errors(tmp_path: Path, count: int) -> None:
    folder, outcomes = tmp_path / "good", set()
    folder.mkdir()
    for name, good in sources(folder).items():
        draw = np.random.default_rng(len(name))
        for number in range(count):
            data = bytearray(good)
            for _ in range(draw.choice([1, 1, 4, 20])):
                # Headers are at the beginning, and a zip's list at the end.
                place = int(draw.integers(len(data)) * draw.choice([1, 0.05]))
                data[place if number % 3 else -1 - place] = int(draw.integers(256))
            if number % 7 == 0:
                del data[int(draw.integers(len(data))) :]
            file = tmp_path / name
            file.write_bytes(data)
            try:
                convert(file, tmp_path / "out", pictures=Pictures(resize=32))
                said = ""
            except DataError as fault:
                said = str(fault)
            outcomes.add((name, "error" if said else "clips"))
            assert len(said.splitlines()) <= 1
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert {name for name, outcome in outcomes if outcome == "error"} == set(sources(folder))


def test_mutated_files_are_recordings_or_our_errors(tmp_path: Path) -> None:
    assert_mutated_are_recordings_or_our_errors(tmp_path, 12)


@pytest.mark.fuzz
def test_two_thousand_mutated_files_of_each_kind(tmp_path: Path) -> None:
    assert_mutated_are_recordings_or_our_errors(tmp_path, 2000)


def assert_mutated_lerobot_is_clips_or_our_error(root: Path, tmp_path: Path, count: int) -> None:
    """Damages one of the tables, the films' list or a film at a time."""
    files = [next(root.rglob("*.parquet")), root / "meta/info.json", next(root.rglob("*.mp4"))]
    outcomes = set()
    for file in files:
        good = file.read_bytes()
        draw = np.random.default_rng(len(file.name))
        for number in range(count):
            data = bytearray(good)
            for _ in range(draw.choice([1, 1, 4, 20])):
                # A table's description of itself is at its end.
                place = int(draw.integers(len(data)) * draw.choice([1, 0.2]))
                data[place if number % 3 else -1 - place] = int(draw.integers(256))
            if number % 7 == 0:
                del data[int(draw.integers(len(data))) :]
            file.write_bytes(data)
            try:
                convert(root, tmp_path / "out", pictures=Pictures(resize=32))
                said = ""
            except DataError as fault:
                said = str(fault)
            outcomes.add((file.suffix, "error" if said else "clips"))
            assert len(said.splitlines()) <= 1
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
        file.write_bytes(good)
    assert {suffix for suffix, outcome in outcomes if outcome == "error"} >= {".parquet", ".json"}


@pytest.mark.parametrize("version", ["version_2", "version_3"])
def test_mutated_lerobot_is_clips_or_our_error(
    tmp_path: Path, version: str, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue(version)
    assert_mutated_lerobot_is_clips_or_our_error(root, tmp_path, 14)


@pytest.mark.fuzz
def test_five_hundred_mutated_lerobots(tmp_path: Path, version_2: Path) -> None:
    assert_mutated_lerobot_is_clips_or_our_error(version_2, tmp_path, 500)
