"""Ways to break a clip, a data set, a pack, a zip, records and arrays: what test_faults does.

Each is a function that is given the path of a good thing, or makes one.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tfrecord
from PIL import Image

CLIP = "train/traj_512_to_767.tfrecords/1"
"""the clip that is broken; there are 0 and 2 beside it"""


# ------------------------------------------------------------------ ways to break a file


def removes(name: str):
    return lambda folder: (folder / name).unlink()


def writes(name: str, data: str | bytes):
    data = data.encode() if isinstance(data, str) else data
    return lambda folder: (folder / name).write_bytes(data)


def changes(name: str, change: Callable[[bytes], bytes]):
    def do(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return do


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(place: int):
    """A function that flips one bit of the byte at `place`."""
    return lambda data: data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


def cell(name: str, text: str, row: int = 5):
    """Puts `text` in the second cell of a row of a csv."""

    def do(folder: Path) -> None:
        rows = [line.split(",") for line in (folder / name).read_text().splitlines()]
        rows[row - 1][1] = text
        (folder / name).write_text("\n".join(map(",".join, rows)) + "\n")

    return do


def rows(name: str, count: int):
    """Makes a csv have `count` rows."""

    def do(folder: Path) -> None:
        lines = (folder / name).read_text().splitlines()
        (folder / name).write_text("\n".join((lines * 2)[:count]) + "\n")

    return do


def picture(name: str, width: int, height: int):
    return lambda folder: Image.new("RGB", (width, height), "teal").save(folder / name)


def all_pictures(width: int, height: int):
    def do(folder: Path) -> None:
        for number in range(12):
            picture(f"{number}.png", width, height)(folder)

    return do


def is_a_jpeg(folder: Path) -> None:
    Image.open(folder / "3.png").convert("RGB").save(folder / "3.png", format="JPEG")


def is_animated(folder: Path) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "3.png", save_all=True, append_images=frames[1:])


def claims_to_be_huge(folder: Path) -> None:
    data = bytearray((folder / "3.png").read_bytes())
    data[16:24] = struct.pack(">II", 100_000, 100_000)
    (folder / "3.png").write_bytes(data)


def is_a_folder(name: str):
    def do(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return do


def is_a_link(name: str, target: str):
    def do(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return do


def is_a_pipe(folder: Path) -> None:
    (folder / "3.png").unlink()
    os.mkfifo(folder / "3.png")


def may_not_be_read(name: str):
    return lambda folder: (folder / name).chmod(0)


def leaves_a_gap(folder: Path) -> None:
    for number in range(11, 4, -1):
        (folder / f"{number}.png").rename(folder / f"{number + 1}.png")


def has_names_without_numbers(folder: Path) -> None:
    for number in range(12):
        (folder / f"{number}.png").rename(folder / f"picture {chr(ord('a') + number)}.png")


def has_names_of_ffmpeg(folder: Path) -> None:
    for number in range(12):
        (folder / f"{number}.png").rename(folder / f"frame_{number + 1:04}.png")


def has_names_of_ffmpeg_with_a_gap(folder: Path) -> None:
    has_names_of_ffmpeg(folder)
    (folder / "frame_0004.png").unlink()


def copies(name: str, copy: str):
    return lambda folder: shutil.copyfile(folder / name, folder / copy)


def is_empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def is_shorter(folder: Path) -> None:
    for number in (10, 11):
        (folder / f"{number}.png").unlink()
    for name in ("actions.csv", "endeffector_positions.csv"):
        rows(name, 10)(folder)


def labels(*shape: int, key: str = "labels"):
    return lambda folder: np.savez(folder / "labels.npz", **{key: np.zeros(shape, np.uint8)})


def in_clip(do: Callable[[Path], object]):
    """The same, done to one clip of a data set."""
    return lambda root: do(root / CLIP)


# ------------------------------------------------- ways to break a whole set, a pack, a zip


def has_an_empty_split(root: Path) -> None:
    shutil.rmtree(root / "test")
    (root / "test").mkdir()


def has_no_split(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def is_a_file(root: Path) -> None:
    shutil.rmtree(root)
    root.write_text("a file")


def is_gone(root: Path) -> None:
    shutil.rmtree(root) if root.is_dir() else root.unlink()


def is_a_link_to_itself(root: Path) -> None:
    shutil.rmtree(root)
    root.symlink_to(root)


def has_two_validation_splits(root: Path) -> None:
    for name in ("val", "validate"):
        shutil.copytree(root / "test", root / name)


def is_a_split(root: Path) -> None:
    root.rename(root.with_name("whole"))
    (root.with_name("whole") / "train").rename(root)


def trains_on_a_test_clip(root: Path) -> None:
    shutil.rmtree(root / CLIP)
    shutil.copytree(root / "test/traj_0_to_255.tfrecords/0", root / CLIP)


def chooses_on_a_training_clip(root: Path) -> None:
    shutil.copytree(root / CLIP, root / "validate/traj_256_to_511.tfrecords/0")


def holds_records(root: Path) -> None:
    shutil.rmtree(root)
    (root / "test").mkdir(parents=True)
    write_records(root / "test" / "traj_0_to_255.tfrecords")


def manifest(change: Callable[[dict], object]):
    def do(pack: Path) -> None:
        values = json.loads((pack / "manifest.json").read_text())
        change(values)
        (pack / "manifest.json").write_text(json.dumps(values))

    return do


def frames_entry(values: dict) -> dict:
    return values["splits"]["train"]["files"]["frames"]


def shortened(name: str):
    return lambda pack: os.truncate(pack / name, (pack / name).stat().st_size - 1)


def zip_of(root: Path, file: Path) -> None:
    """Zips a data set without its pack."""
    file.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(root.rglob("*")):
            if path.is_file() and ".labkit_pack" not in path.parts:
                archive.write(path, path.relative_to(root.parent))


def adds(name: str, data: bytes = b"x", attributes: int = 0, times: int = 1):
    """Adds entries to a zip; `{}` in their name is their number."""

    def do(file: Path) -> None:
        with zipfile.ZipFile(file, "a") as archive:
            for number in range(times):
                entry = zipfile.ZipInfo(name.format(number))
                entry.external_attr = attributes << 16
                archive.writestr(entry, data)

    return do


def holds_other_things(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("thesis.txt", "the only copy")


def in_directory(offset: int, kind: str, value: int):
    """Changes a number in each entry of a zip's own list."""

    def do(file: Path) -> None:
        data = bytearray(file.read_bytes())
        for match in re.finditer(b"PK\x01\x02", bytes(data)):
            struct.pack_into(kind, data, match.start() + offset, value)
        file.write_bytes(data)

    return do


def inflates_to_terabytes(file: Path) -> None:
    adds("course/train/traj_0/9/{}.png", times=300)(file)
    in_directory(24, "<I", 0xFFFF_FFF0)(file)


def is_larger_than_it_says(file: Path) -> None:
    adds("course/train/traj_0/9/0.png", bytes(100_000))(file)
    in_directory(24, "<I", 10)(file)


# ------------------------------------------------------------------ records and arrays


def example(frames: int = 30, **changes: object) -> dict[str, tuple[object, str]]:
    """The features of one BAIR clip; `changes` are by name with `_` for `/`, None takes one out."""
    random = np.random.default_rng(frames)
    values: dict[str, tuple[object, str]] = {}
    for i in range(frames):
        picture = random.integers(0, 256, (64, 64, 3), np.uint8).tobytes()
        values[f"{i}/image_aux1/encoded"] = ([picture], "byte")
        values[f"{i}/image_main/encoded"] = ([picture], "byte")
        values[f"{i}/action"] = (random.uniform(0, 0.06, 4).tolist(), "float")
        values[f"{i}/endeffector_pos"] = (random.uniform(0, 0.2, 3).tolist(), "float")
    for name, value in changes.items():
        key = name.replace("frame3_", "3/")
        values.pop(key) if value is None else values.update({key: (value, values[key][1])})
    return values


def write_records(file: Path, *examples: dict) -> None:
    """Writes records with a program that is not ours."""
    writer = tfrecord.TFRecordWriter(str(file))
    for one in examples or (example(), example()):
        writer.write(one)
    writer.close()


def second_record(**changes: object):
    return lambda file: write_records(file, example(), example(**changes))


def is_an_empty_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def bytes_of(change: Callable[[bytes], bytes]):
    return lambda file: file.write_bytes(change(file.read_bytes()))


def in_tar(data: Callable[[bytes], bytes] = lambda data: data, name: str = "traj_0.tfrecords"):
    """Puts the file in a tar of the same path."""

    def do(file: Path) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(file, f"softmotion30_44k/test/{name}")
        file.write_bytes(data(buffer.getvalue()))

    return do


def arrays(**changes: object):
    values: dict[str, object] = {
        "aux1_image": np.zeros((12, 64, 64, 3), np.uint8),
        "action": np.zeros((12, 4), np.float32),
        **changes,
    }
    return lambda file: np.savez(file, **{k: v for k, v in values.items() if v is not None})
