"""What the lab survives: one table of broken inputs, and what each is answered with.

Every row breaks one thing of a good input and runs a command on it. Whatever it is, the answer
has the same form, which `test_a_fault_is_told` holds: a number that says it failed, one message
with the file, the row where there is one, and what mends it; no traceback; and on the disk
everything as it was, an earlier good pack included.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from breaking import (
    adds,
    all_pictures,
    arrays,
    bytes_of,
    cell,
    changes,
    chooses_on_a_training_clip,
    claims_to_be_huge,
    copies,
    flipped,
    frames_entry,
    half,
    has_an_empty_split,
    has_names_of_ffmpeg_with_a_gap,
    has_names_without_numbers,
    has_no_split,
    has_two_validation_splits,
    holds_other_things,
    holds_records,
    in_clip,
    in_directory,
    in_tar,
    inflates_to_terabytes,
    is_a_file,
    is_a_folder,
    is_a_jpeg,
    is_a_link,
    is_a_link_to_itself,
    is_a_pipe,
    is_a_split,
    is_an_empty_folder,
    is_animated,
    is_empty,
    is_gone,
    is_larger_than_it_says,
    labels,
    leaves_a_gap,
    manifest,
    may_not_be_read,
    picture,
    removes,
    rows,
    second_record,
    shortened,
    trains_on_a_test_clip,
    write_records,
    writes,
    zip_of,
)

from labkit.cli import main
from labkit.data.dataset import ClipDataset
from labkit.data.pack import open_pack
from labkit.errors import LabkitError


@dataclass(frozen=True)
class Answer:
    """What a command ended with."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Fault:
    """A row of the table."""

    thing: str
    """what is broken: a name in GOOD"""
    name: str
    """what is wrong with it, in words"""
    do: Callable[[Path], object]
    """breaks it, given its path"""
    file: str
    """how the file ends that the message names"""
    says: str
    """words of the message, a pattern"""
    row: int | None = None
    """the row of that file"""
    met_by: tuple[str, ...] = ("check", "pack")
    """the commands that are run, names in COMMANDS"""


# ------------------------------------------------------------------ the things and the commands


def records_and_an_earlier_pack(here: Path) -> None:
    write_records(here / "test.tfrecords")
    assert main(["data", "convert", f"{here}/test.tfrecords", f"{here}/out", *QUIET]) == 0


GOOD: dict[str, tuple[str, Callable[[Path], object]]] = {
    "set": ("course", lambda here: None),
    "clip": ("course", lambda here: None),
    "pack": ("course/.labkit_pack", lambda here: None),
    "zip": ("course.zip", lambda here: zip_of(here / "course", here / "course.zip")),
    "records": ("test.tfrecords", records_and_an_earlier_pack),
    "tar": ("test.tar", lambda here: write_records(here / "test.tar")),
    "arrays": ("clip.npz", lambda here: arrays()(here / "clip.npz")),
}
"""For each thing its path, and what makes it beside the good data set `course`."""

QUIET = ["--no-progress"]

BEGIN = {
    "without rights": """
        import ctypes, os
        if os.getuid() == 0:  # root reads everything, unless it gives that up
            libc = ctypes.CDLL(None, use_errno=True)
            header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
            assert libc.capset(header, none) == 0, os.strerror(ctypes.get_errno())
    """,
    "killed at the last clip": """
        import os, signal
        from labkit.data import layout
        from labkit.data.layout import read as layout_read
        read, count = layout_read.read_clip, iter(range(99))
        def dies(folder):
            os.kill(os.getpid(), signal.SIGKILL) if next(count) == 3 else None
            return read(folder)
        layout.read_clip = dies
    """,
    "together": "",
    "on a full disk": """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    """,
}
"""What a process does before it runs a command."""


def run(capsys, *words: str) -> Answer:
    code = main(["data", *words])
    said = capsys.readouterr()
    return Answer(code, said.out, said.err)


def begin_apart(how: str, *words: str) -> subprocess.Popen[str]:
    """The same in a process of its own, begun in one of the ways of BEGIN."""
    begin = textwrap.dedent(BEGIN[how])
    code = f"{begin}\nimport sys\nfrom labkit.cli import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-B", "-c", code, "data", *words]
    # readline, which pytest imports, sets COLUMNS for child processes behind os.environ's back.
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=dict(os.environ),
    )


def end(process: subprocess.Popen[str]) -> Answer:
    out, err = process.communicate(timeout=60)
    return Answer(process.returncode, out, err)


def run_apart(how: str, *words: str) -> Answer:
    return end(begin_apart(how, *words))


def open_test_split(root: Path) -> Answer:
    """What looking at pictures without a pack begins with."""
    try:
        ClipDataset(root, "test", source="folders")
    except LabkitError as error:
        return Answer(2, "", f"labkit dataset: {error}")
    return Answer(0, "", "")


COMMANDS: dict[str, Callable[[object, Path, Path], Answer]] = {
    "check": lambda caps, thing, here: run(caps, "check", str(thing), *QUIET),
    "pack": lambda caps, thing, here: run(caps, "pack", str(thing), *QUIET),
    "convert": lambda caps, thing, here: run(
        caps, "convert", str(thing), f"{here}/out", "--workers", "1", *QUIET
    ),
    "fix": lambda caps, thing, here: run(
        caps, "check", str(thing), "--fix", f"{here}/course/copy", *QUIET
    ),
    "dataset": lambda caps, thing, here: open_test_split(thing),
    "check without rights": lambda caps, thing, here: run_apart(
        "without rights", "check", str(thing), *QUIET
    ),
    "pack on a full disk": lambda caps, thing, here: run_apart(
        "on a full disk", "pack", str(thing), *QUIET
    ),
    "convert on a full disk": lambda caps, thing, here: run_apart(
        "on a full disk", "convert", str(thing), f"{here}/out", "--workers", "1", *QUIET
    ),
}

ACTIONS, POSITIONS = "actions.csv", "endeffector_positions.csv"
CHECK, APART = ("check",), ("check without rights",)

clip, whole, pack, zipped = (partial(Fault, thing) for thing in ("clip", "set", "pack", "zip"))
records, tar, arrays_of = (
    partial(Fault, thing, met_by=("convert",)) for thing in ("records", "tar", "arrays")
)

FAULTS = [
    # The pictures of a clip.
    clip("a missing frame", removes("3.png"), "1/3.png", "missing"),
    clip("the last frame is missing", removes("11.png"), "1/11.png", "12 rows"),
    clip("frames numbered with a gap", leaves_a_gap, "1/5.png", "missing"),
    clip(
        "frames whose names have no numbers",
        has_names_without_numbers,
        "records/1",
        r"no frames; its files: .*picture a\.png.*expected 0\.png, 1\.png",
    ),
    clip(
        "ffmpeg's names with a gap",
        has_names_of_ffmpeg_with_a_gap,
        "1/frame_0004.png",
        "frame is missing.*extract the clip again",
    ),
    clip("a truncated PNG", changes("3.png", half), "1/3.png", "not a readable PNG"),
    clip("a zero-byte PNG", writes("3.png", b""), "1/3.png", "no bytes"),
    clip("text called .png", writes("3.png", "hello"), "1/3.png", "not a readable PNG"),
    clip("a flipped bit in a PNG", changes("3.png", flipped(60)), "1/3.png", "not a readable PNG"),
    clip("a JPEG called .png", is_a_jpeg, "1/3.png", "JPEG"),
    clip("an animated PNG", is_animated, "1/3.png", "animated"),
    clip("a PNG that claims to be huge", claims_to_be_huge, "1/3.png", "100000x100000"),
    clip("one frame of 63x64", picture("3.png", 63, 64), "1/3.png", "63x64.*one size"),
    clip("one frame of 128x128", picture("3.png", 128, 128), "1/3.png", "128x128.*one size"),
    clip(
        "the first frame of another size",
        picture("0.png", 63, 64),
        "1/0.png",
        "63x64",
        met_by=CHECK,
    ),
    clip(
        "a clip of 128x128", all_pictures(128, 128), "records/1", "128x128.*--resize", met_by=CHECK
    ),
    clip("a clip of 63x64", all_pictures(63, 64), "records/1", "63x64", met_by=CHECK),
    clip("a folder called 3.png", is_a_folder("3.png"), "1/3.png", "is a folder"),
    clip(
        "a frame that is a link to nothing",
        is_a_link("3.png", "gone"),
        "1/3.png",
        "link to nothing",
    ),
    clip("a frame that is a link to itself", is_a_link("3.png", "3.png"), "1/3.png", "circle"),
    clip("a frame that is a pipe", is_a_pipe, "1/3.png", "pipe"),
    clip(
        "a frame that may not be read",
        may_not_be_read("3.png"),
        "1/3.png",
        "may not be read",
        met_by=APART,
    ),
    clip("both 0.png and 00.png", copies("0.png", "00.png"), "records/1", "0.png and 00.png"),
    # The tables of a clip.
    clip("10 rows for 12 frames", rows(ACTIONS, 10), ACTIONS, "10 rows for 12 frames", 11),
    clip("13 rows for 12 frames", rows(ACTIONS, 13), "1/12.png", "13 rows"),
    clip("5 columns", cell(ACTIONS, "1,2"), ACTIONS, "5 columns", 5),
    clip("text in a csv", cell(ACTIONS, "left"), ACTIONS, "'left' is not a number", 5),
    clip("an empty cell", cell(ACTIONS, ""), ACTIONS, "'' is not a number", 5),
    clip("NaN in a csv", cell(ACTIONS, "nan"), ACTIONS, "nan is not finite", 5),
    clip("infinity in a csv", cell(ACTIONS, "-inf"), ACTIONS, "inf is not finite", 5),
    clip("a number beyond float32", cell(ACTIONS, "1e39"), ACTIONS, "1e39 is not finite", 5),
    clip("a Python number", cell(ACTIONS, "1_0"), ACTIONS, "'1_0' is not a number", 5),
    clip("an empty csv", writes(ACTIONS, b""), ACTIONS, "is empty"),
    clip(
        "a csv with a header alone", writes(ACTIONS, "dx,dy,close,lift\n"), ACTIONS, "no numbers", 1
    ),
    clip(
        "a spreadsheet called .csv", writes(ACTIONS, b"PK\3\4\0\0\xff"), ACTIONS, "not a text file"
    ),
    clip("a folder called actions.csv", is_a_folder(ACTIONS), ACTIONS, "is a folder"),
    clip("no actions", removes(ACTIONS), ACTIONS, "no such file"),
    clip(
        "two files of actions", copies(ACTIONS, "action.csv"), "records/1", "two files of actions"
    ),
    clip("11 positions", rows(POSITIONS, 11), POSITIONS, "11 rows for 12 frames", 12),
    clip("NaN in the positions", cell(POSITIONS, "NaN", 12), POSITIONS, "NaN is not finite", 12),
    # A clip as a whole.
    clip("positions in some clips only", removes(POSITIONS), "1", "has no positions", met_by=CHECK),
    clip("labels in some clips only", labels(12, 64, 64), "1", "has labels", met_by=CHECK),
    clip("damaged labels", writes("labels.npz", b"PK"), "labels.npz", "not a readable file"),
    clip("labels of another shape", labels(12, 32, 32), "labels.npz", r"\(12, 32, 32\)"),
    clip(
        "labels under another name", labels(12, 64, 64, key="mask"), "labels.npz", "not a readable"
    ),
    clip("an empty clip folder", is_empty, "1", "holds no frames"),
    clip(
        "a clip that may not be listed",
        may_not_be_read("."),
        "records/1",
        "may not be listed",
        met_by=APART,
    ),
    # A data set as a whole.
    whole(
        "an empty split",
        has_an_empty_split,
        "course/test",
        "holds no clips",
        met_by=("check", "dataset"),
    ),
    whole("no split at all", has_no_split, "course", "no clips"),
    whole("no data set", is_gone, "course", "no such folder"),
    whole("a file", is_a_file, "course", "is a file"),
    whole("a link to itself", is_a_link_to_itself, "course", "circle"),
    whole("a split instead of the set", is_a_split, "course", "itself a split"),
    whole("val beside validate", has_two_validation_splits, "course", "val.* and val"),
    whole(
        "a test clip in the training set",
        trains_on_a_test_clip,
        "records/1",
        "test clip inside the training set",
        met_by=CHECK,
    ),
    whole(
        "a training clip in validate",
        chooses_on_a_training_clip,
        "records/1",
        "same pictures",
        met_by=CHECK,
    ),
    whole("official records, not converted", holds_records, "course", "labkit data convert"),
    whole(
        "a repaired copy inside the original",
        lambda root: None,
        "course/copy",
        "inside",
        met_by=("fix",),
    ),
    whole(
        "a split that is not there",
        lambda root: shutil.rmtree(root / "test"),
        "course",
        "no split 'test'.*train",
        met_by=("dataset",),
    ),
    whole(
        "a full disk while packing",
        in_clip(cell(ACTIONS, "0.01")),
        ".labkit_pack",
        "cannot be written.*disk space",
        met_by=("pack on a full disk",),
    ),
    # A pack.
    pack(
        "a data file shorter than the manifest says",
        shortened("train/frames.bin"),
        "train/frames.bin",
        "bytes",
    ),
    pack(
        "a data file that is missing", removes("train/actions.npy"), "train/actions.npy", "missing"
    ),
    pack(
        "an unknown version",
        manifest(lambda m: m.update(version=99)),
        "manifest.json",
        "version 99",
    ),
    pack(
        "another dtype in the manifest",
        manifest(lambda m: frames_entry(m).update(dtype="float32")),
        "manifest.json",
        "float32",
    ),
    pack(
        "another shape in the manifest",
        manifest(lambda m: frames_entry(m).update(shape=[3, 12, 3, 64, 65])),
        "frames.bin",
        "65",
    ),
    pack(
        "a manifest without frames",
        manifest(lambda m: m["splits"]["train"]["files"].pop("frames")),
        "manifest.json",
        "incomplete",
    ),
    pack("a torn manifest", changes("manifest.json", half), "manifest.json", "not readable"),
    pack(
        "another program's manifest",
        writes("manifest.json", "{}"),
        "manifest.json",
        "not the manifest",
    ),
    pack(
        "a flipped bit in the pictures",
        changes("train/frames.bin", flipped(999)),
        "train/frames.bin",
        "has changed",
        met_by=CHECK,
    ),
    pack("a repair of a pack", lambda pack: None, ".labkit_pack", "is a pack", met_by=("fix",)),
    # A zip.
    zipped(
        "a name that leads out of the zip", adds("../../evil.png"), "course.zip", r"\.\./\.\./evil"
    ),
    zipped("a name from the root of the disk", adds("/etc/evil.png"), "course.zip", "/etc/evil"),
    zipped(
        "a link in a zip",
        adds("course/train/x.png", b"/etc/passwd", 0o120777),
        "course.zip",
        "is a link",
    ),
    zipped("a zip that inflates to terabytes", inflates_to_terabytes, "course.zip", "TB"),
    zipped(
        "a zip that inflates to more than it says", is_larger_than_it_says, "course.zip", "entry"
    ),
    zipped("an encrypted zip", in_directory(8, "<H", 1), "course.zip", "encrypted"),
    zipped("a truncated zip", bytes_of(half), "course.zip", "not a zip"),
    zipped("text called .zip", bytes_of(lambda data: b"hello"), "course.zip", "not a zip"),
    zipped("a flipped bit in a zip", bytes_of(flipped(200)), "course.zip", "damaged"),
    zipped("a zip of other things", holds_other_things, "course.zip", "no clips"),
    # Official records.
    records(
        "a truncated record file",
        bytes_of(lambda d: d[:-100]),
        "test.tfrecords",
        "ends within record 2",
        2,
    ),
    records("a flipped bit in a record", bytes_of(flipped(5000)), "test.tfrecords", "checksum", 1),
    records(
        "a flipped bit in a record's length", bytes_of(flipped(2)), "test.tfrecords", "checksum", 1
    ),
    records(
        "a missing feature", second_record(frame3_action=None), "test.tfrecords", "3/action", 2
    ),
    records(
        "a picture of the wrong length",
        second_record(**{"frame3_image_aux1/encoded": [b"123"]}),
        "test.tfrecords",
        "3 bytes",
        2,
    ),
    records(
        "an action of three numbers",
        second_record(frame3_action=[0.0] * 3),
        "test.tfrecords",
        "3 floats.*expected 4",
        2,
    ),
    records(
        "an action that is not a number",
        second_record(frame3_action=[0.0, 0.0, float("nan"), 0.0]),
        "test.tfrecords",
        "not finite",
        2,
    ),
    records("29 frames", second_record(frames=29), "test.tfrecords", "29 frames", 2),
    records("an empty record file", bytes_of(lambda data: b""), "test.tfrecords", "no records"),
    records(
        "text called .tfrecords",
        bytes_of(lambda data: b"hello, world, hello"),
        "test.tfrecords",
        "TFRecord|ends within",
        1,
    ),
    records("no record file", is_gone, "test.tfrecords", "no such"),
    records("a folder without records", is_an_empty_folder, "test.tfrecords", "is an empty folder"),
    records(
        "a full disk while converting",
        second_record(),
        "out",
        "cannot be written.*disk space",
        met_by=("convert on a full disk",),
    ),
    tar("a truncated tar", in_tar(lambda d: d[:900_000]), "test.tar", "incomplete|ends"),
    tar("a tar without records", in_tar(name="thesis.pdf"), "test.tar", "no .*records"),
    tar("text called .tar", bytes_of(lambda data: b"hello"), "test.tar", "not a whole tar"),
    # Arrays of one clip.
    arrays_of(
        "an npz without the pictures", arrays(aux1_image=None), "clip.npz", "no array of pictures"
    ),
    arrays_of(
        "an npz with pictures of another shape",
        arrays(aux1_image=np.zeros((12, 3, 64, 64), np.uint8)),
        "clip.npz",
        "shape",
    ),
    arrays_of("an npz with 11 actions", arrays(action=np.zeros((11, 4))), "clip.npz", r"\(11, 4\)"),
    arrays_of(
        "an npz with objects in it", arrays(action=np.array([{}])), "clip.npz", "not a readable"
    ),
    arrays_of("a truncated npz", bytes_of(half), "clip.npz", "not a readable"),
    arrays_of(
        "an empty file called .npz", bytes_of(lambda data: b""), "clip.npz", "not a readable"
    ),
]


MESSAGE = re.compile(r"(.+?)(?:, row ([0-9]+))?: (.+)")
"""file, row where there is one, and what is wrong with how to fix it"""


def messages(answer: Answer) -> list[str]:
    """The faults of a report, or the one line of a command that could not go on."""
    report = re.findall(r"^fault: (.*)$", answer.out, re.MULTILINE)
    return [*report, *re.findall(r"^labkit [\w ]+: (.*)$", answer.err, re.MULTILINE)]


def visible(tree: dict[str, str]) -> dict[str, str]:
    """A folder's content without what the next run of a conversion goes on with."""
    return {name: state for name, state in tree.items() if not name.startswith(".out.")}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_told(fault, good_course, tree_of, capsys, monkeypatch):
    here = good_course.parent
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    name, make = GOOD[fault.thing]
    make(here)
    capsys.readouterr()
    (in_clip(fault.do) if fault.thing == "clip" else fault.do)(here / name)
    before = visible(tree_of(here, digests=False))
    for command in fault.met_by:
        answer = COMMANDS[command](capsys, here / name, here)
        said = f"{command}: {answer.out}{answer.err}"
        assert answer.code == (1 if "fault:" in answer.out else 2), said
        assert "Traceback" not in said
        (message,) = messages(answer)
        path, row, words = MESSAGE.fullmatch(message).groups()
        assert Path(path).is_relative_to(here), said
        assert path.endswith(fault.file), said
        assert (row and int(row)) == fault.row, said
        assert re.search(fault.says, words), said
        assert re.search(r" \(.+\)$", words), f"no hint: {said}"
        assert visible(tree_of(here, digests=False)) == before


# ------------------------------------------------------------------ what is no fault


def test_a_process_killed_while_it_packs_leaves_the_earlier_pack(good_course, tree_of):
    earlier = tree_of(good_course / ".labkit_pack")
    cell("actions.csv", "0.01")(good_course / "test/traj_0_to_255.tfrecords/0")
    ended = run_apart("killed at the last clip", "pack", str(good_course), *QUIET)
    assert ended.code == -signal.SIGKILL
    assert tree_of(good_course / ".labkit_pack") == earlier
    assert main(["data", "pack", str(good_course), *QUIET]) == 0
    pack = open_pack(good_course / ".labkit_pack")
    pack.verify()
    assert pack.split("test").actions[0, 4, 1] == np.float32(0.01)
    names = {path.name for path in good_course.iterdir()}
    assert names == {".labkit_pack", "train", "test"}


def test_two_processes_that_pack_at_once_make_one_pack(good_course):
    shutil.rmtree(good_course / ".labkit_pack")
    both = [begin_apart("together", "pack", str(good_course), *QUIET) for _ in range(2)]
    answers = [end(process) for process in both]
    assert {answer.code for answer in answers} <= {0, 2}
    for answer in answers:
        assert "Traceback" not in answer.err
        assert answer.code == 0 or "is being written by another process" in answer.err
    assert any(answer.code == 0 for answer in answers)
    open_pack(good_course / ".labkit_pack").verify()
    names = {path.name for path in good_course.iterdir()}
    assert names == {".labkit_pack", "train", "test"}


@pytest.mark.parametrize("name", ["données d'été/机器人 🤖", "[brackets] *? a: b", "x" * 200])
def test_any_name_of_a_folder_will_do(name, good_course, tmp_path, capsys):
    root = tmp_path / name / "course"
    shutil.copytree(good_course, root, ignore=shutil.ignore_patterns(".*"))
    zip_of(root, root.with_name(f"{root.parent.name}.zip"))
    for thing in (root, root.with_name(f"{root.parent.name}.zip")):
        assert run(capsys, "check", str(thing), *QUIET).out.endswith("no faults\n")
        assert run(capsys, "pack", str(thing), *QUIET).code == 0
    assert run(capsys, "check", str(root), "--fix", str(tmp_path / name / "copy")).code == 0
