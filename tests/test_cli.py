"""The command line: help worth reading, and one line for a mistake."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib
import inspect
import io
import os
import subprocess
import sys
import types
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import labkit.cli.commands
import labkit.cli.comparison_commands
import labkit.cli.data_commands
import labkit.cli.evaluate_command
import labkit.cli.evaluation_commands
import labkit.config
import labkit.data.convert
import labkit.data.download
import labkit.demo
import labkit.training
from labkit.cli import LABKIT, main
from labkit.cli.options import fitted
from labkit.cli.reading import Group
from labkit.config import Config
from labkit.data.clip import Clip
from labkit.data.layout import write_split
from labkit.doctor import render
from labkit.errors import TrainingError
from labkit.evaluation.perceptual import how_to_get
from labkit.presets import PRESETS, preset
from labkit.training.signals import TrainingStopped


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No command of these tests finds or leaves anything in the project; help is 100 wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")


def leaves(group: Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words of every command."""
    found = []
    for name, command in group.commands.items():
        below = isinstance(command, Group)
        found += leaves(command, (*path, name)) if below else [(*path, name)]
    return found


@dataclasses.dataclass
class Trained:
    """What `labkit.training.train` was called with."""

    config: Config
    run: Path
    options: dict


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Trained]:
    """Records trainings instead of doing them."""
    calls: list[Trained] = []

    def train(config: Config, run: Path, **rest: object) -> list[types.SimpleNamespace]:
        calls.append(Trained(config, run, rest))
        return [types.SimpleNamespace(updates=1)]

    monkeypatch.setattr(labkit.training, "train", train)
    return calls


# ------------------------------------------------------------------------------------ help


def test_the_commands_are_those_of_the_readme() -> None:
    names = {" ".join(words) for words in leaves(LABKIT)}
    data = {"simulate", "download", "convert", "check", "pack"}
    assert names == {f"data {name}" for name in data} | {
        "demo",
        "train",
        "evaluate",
        "compare",
        "experiment",
        "import",
        "handout",
        "check",
        "submit",
        "grade",
        "prove",
        "control",
        "predict",
        "doctor",
    }


@pytest.mark.parametrize("words", [(), ("data",)])
def test_help_of_a_group_lists_its_commands(
    words: tuple[str, ...], capsys: pytest.CaptureFixture
) -> None:
    group = LABKIT.commands["data"] if words else LABKIT
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    for name in group.commands:
        assert f"• {name} " in shown


@pytest.mark.parametrize("words", leaves(LABKIT), ids=" ".join)
def test_help_of_a_command_explains_every_option(
    words: tuple[str, ...], capsys: pytest.CaptureFixture
) -> None:
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"usage: labkit {' '.join(words)}" in shown
    kind: object = LABKIT
    for word in words:
        kind = kind.commands[word]
    assert (kind.__doc__ or "").split("\n")[0] in " ".join(shown.split())
    for item in dataclasses.fields(kind):
        known_as = "run" if item.name == "folder" else item.name.replace("_", "-")
        assert item.name == "config" or known_as in shown.lower(), item.name


COMMANDS = [
    labkit.cli.commands,
    labkit.cli.comparison_commands,
    labkit.cli.data_commands,
    labkit.cli.evaluate_command,
    labkit.cli.evaluation_commands,
]


@pytest.mark.parametrize("module", [*COMMANDS, labkit.config], ids=str)
def test_every_option_has_a_help_text(module: ModuleType) -> None:
    # tyro takes an option's help from the string that stands under the field.
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    nested = {"config", "data", "model", "kl", "teacher_forcing", "training"}
    for kind in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for field, below in zip(kind.body, [*kind.body[1:], None], strict=True):
            constant = isinstance(field, ast.AnnAssign) and "ClassVar" in ast.dump(field.annotation)
            if isinstance(field, ast.AnnAssign) and kind.name != "Between" and not constant:
                explained = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
                name = field.target.id
                assert explained or name in nested, f"{kind.name}.{name}"


def test_help_of_train_shows_the_presets_own_values(capsys: pytest.CaptureFixture) -> None:
    for name in ("demo", "course"):
        main(["train", name, "--help"])
        shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert f"(default: {preset(name).training.batch_size})" in shown
        assert f"(default: {preset(name).model.backbone})" in shown


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys; from labkit.cli import main; main(['--help']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


# -------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "labkit: name a command: demo, data, train"),
        ("trian", "no command 'trian'; did you mean labkit train?"),
        ("data smulate", "no command 'smulate'; did you mean labkit data simulate?"),
        ("train --epoch 3", "unrecognized option --epoch; did you mean --training.epochs?"),
        ("train --trainng.epochs 3", "did you mean --training.epochs?"),
        ("train --training.batchsize 3", "did you mean --training.batch-size?"),
        ("train dmeo", "PRESET is 'dmeo'; allowed: demo, best, layer, course, spec, "),
        ("train --training.epochs x", "--training.epochs is 'x'; it must be a whole number"),
        ("train --training.epochs 0", "TrainingConfig.epochs is 0; allowed: 1.."),
        ("train --model.skip none", "--model.skip is 'none'; allowed: last_context, previous, "),
        ("train --out", "--out needs a value"),
        ("train --resume --out nowhere", "data/simulated: no such folder"),
        ("train smoke --no-progress", "data/simulated: no such folder"),
        ("train --device gpu", "--device is 'gpu'; allowed: cpu, cuda, mps"),
        ("evaluate", "labkit evaluate: missing: RUN"),
        ("evaluate nowhere", "nowhere: not the folder of a run"),
        ("predict nowhere clip", "nowhere: not the folder of a run"),
        ("data check nowhere", "nowhere: no such folder"),
        ("data pack nowhere", "nowhere: no such folder"),
        ("data convert nowhere.npz out", "nowhere.npz: no such file"),
        ("data convert nowhere out --layout", "nowhere: no such file"),
        ("data download", "labkit data download: missing: WHAT"),
        ("data download kitti", "WHAT is 'kitti'; allowed: bair-test, bair"),
        ("train --minutes x", "--minutes is 'x'; it must be a number"),
        ("predict a b c", "too many words: c"),
        ("train --no-resume", "too many words: --no-resume"),
        ("data download bair-test --ur x", "did you mean --url?"),
        ("data download bair-test --url x", "x: is no address of a file"),
        ("data check nowhere --resize", "--resize scales the frames of a copy"),
        ("data check nowhere --fix", "--fix needs a value"),
        ("data simulate --train 0 --no-progress", "0 clips for train"),
        ("doctor --verbose", "labkit doctor: unrecognized option --verbose"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    line: str, said: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert err.startswith("labkit")
    assert said in err


@pytest.mark.parametrize("narrow", [False, True])
def test_a_mistake_ends_the_process_so_too(narrow: bool) -> None:
    plain = {"PYTHONIOENCODING": "ascii", "COLUMNS": "40"} if narrow else {}
    done = subprocess.run(
        [sys.executable, "-m", "labkit", "train", "dmeo"],
        capture_output=True,
        text=True,
        env={**os.environ, **plain},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("labkit train: PRESET is 'dmeo'; allowed: ")
    assert done.stderr.count("\n") == 1


def test_a_tyro_without_the_hook_prints_its_own_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(labkit.cli.reading, "on_parse_error", contextlib.nullcontext)
    assert main(["train", "dmeo"]) == 2
    assert "dmeo" in capsys.readouterr().err


def test_help_texts_are_not_broken_inside_sentences(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("COLUMNS", "4000")
    main(["train", "--help"])
    shown = capsys.readouterr().out
    source = inspect.getsource(labkit.cli.commands.Train).partition("@property")[0]
    for text in source.split('"""')[3::2]:
        assert " ".join(text.split()) in shown
    assert "every one of a clip, or the first alone (the course's way)." in shown


@pytest.mark.parametrize("line", ["", "data", "data convert", "train", "import", "check"])
def test_help_fits_the_terminal(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*line.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "(default: )" not in shown
    assert "{None" not in shown


def test_help_shows_no_default_beside_a_switch(capsys: pytest.CaptureFixture) -> None:
    main(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "show no progress bar" in shown
    assert "(default: None)" not in shown
    assert "progress bar (default" not in shown


def test_lines_fit_the_terminal_and_stay_whole_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a head\n\n  passed  noise: " + "every future frame replaced by noise, " * 3
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys, "__stdout__", io.StringIO())  # no terminal
    assert fitted(text) == text
    monkeypatch.setenv("COLUMNS", "60")
    lines = fitted(text).splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[:2] == ["a head", ""]
    assert all(line.startswith("      ") for line in lines[3:])
    assert " ".join(" ".join(lines).split()) == " ".join(text.split())


def test_the_command_is_installed() -> None:
    command = Path(sys.executable).with_name("labkit")
    done = subprocess.run([command, "trian"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "labkit: no command 'trian'; did you mean labkit train? (labkit --help)\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "labkit train: interrupted\n"),
        (
            TrainingStopped(15, 7, Path("r")),
            143,
            "stopped by SIGTERM after update 7, with everything",
        ),
        (TrainingStopped(2, 7, Path("r")), 130, "saved; to go on: labkit train --resume --out r\n"),
        (
            TrainingError("the loss is nan", hint="a lower\nrate"),
            2,
            "the loss is nan (a lower rate)",
        ),
        (PermissionError(13, "Permission denied", "runs"), 2, "runs: Permission denied"),
    ],
)
def test_what_goes_wrong_within_a_command_is_one_line(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(labkit.training, "train", fail)
    assert main(["train"]) == code
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_an_error_of_the_program_itself_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(labkit.training, "train", fail)
    with pytest.raises(ZeroDivisionError):
        main(["train"])


# ------------------------------------------------------------------------------- what runs


@pytest.mark.parametrize("name", PRESETS)
def test_train_takes_the_preset_wherever_it_stands(name: str, trained: list[Trained]) -> None:
    assert main(["train", name]) == 0
    assert main(["train", "--out", "demo", name]) == 0
    assert [call.config for call in trained] == [preset(name)] * 2
    assert [call.run for call in trained] == [Path("runs") / name, Path("demo")]


def test_train_takes_any_field_of_the_config(trained: list[Trained]) -> None:
    line = (
        "train course --training.epochs 3 --data.root X --model.align --kl.max_weight 0.5 --seed 9"
    )
    assert main(line.split()) == 0
    course = preset("course")
    assert trained[0].config == dataclasses.replace(
        course,
        seed=9,
        training=dataclasses.replace(course.training, epochs=3),
        data=dataclasses.replace(course.data, root="X"),
        model=dataclasses.replace(course.model, align=True),
        kl=dataclasses.replace(course.kl, max_weight=0.5),
    )


def test_train_hands_on_its_own_options(trained: list[Trained]) -> None:
    main(["train", "--minutes", "2.5", "--no-progress", "--device", "cpu"])
    expected = {"resume": False, "minutes": 2.5, "progress": False, "device": "cpu"}
    expected |= {"init_from": None, "time_threads": True}
    assert trained[0].options.pop("report")
    (board,) = trained[0].options.pop("callbacks")
    assert board.folder == Path("runs/demo/tensorboard")
    assert trained[0].options == expected
    main(["train", "--no-tensorboard"])
    assert trained[1].options["callbacks"] == []


def test_resume_takes_the_runs_own_config(trained: list[Trained], tmp_path: Path) -> None:
    begun = dataclasses.replace(preset("smoke"), seed=77)
    (tmp_path / "run").mkdir()
    begun.save(tmp_path / "run" / "config.json")
    assert main(["train", "--resume", "--out", "run"]) == 0
    assert trained[0].config == begun
    assert trained[0].options["resume"] is True


def test_demo_hands_on_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict] = []
    monkeypatch.setattr(labkit.demo, "run_demo", lambda **options: calls.append(options))
    main(["demo", "--out", "o", "--data", "d", "--minutes", "1", "--workers", "3", "--no-progress"])
    expected = {"out": Path("o"), "data": Path("d"), "minutes": 1.0, "seed": 1}
    assert calls == [
        {**expected, "workers": 3, "progress": False, "device": "cpu"} | {"time_threads": True}
    ]


def test_data_commands_do_what_they_say(capsys: pytest.CaptureFixture) -> None:
    counts = ["--train", "2", "--validate", "1", "--test", "1", "--workers", "1", "--no-progress"]
    assert main(["data", "simulate", "course", "--layout", "course", *counts]) == 0
    assert main(["data", "simulate", "packed", *counts]) == 0
    assert main(["data", "pack", "course", "--no-progress"]) == 0
    assert "2 train, 1 validate, 1 test clips" in capsys.readouterr().out
    for root in ("course", "packed"):
        assert main(["data", "check", root, "--no-progress"]) == 0
    out, err = capsys.readouterr()
    assert out.count("no faults") == 2
    assert not err


def write_noise(root: Path) -> None:
    """A small data set in the course layout."""
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        clips = [
            Clip(
                frames=random.integers(0, 256, (4, 3, 64, 64), np.uint8),
                actions=random.normal(size=(4, 4)).astype(np.float32),
            )
            for _ in range(2)
        ]
        write_split(root, split, clips)


def test_check_ends_with_1_where_something_is_unusable(capsys: pytest.CaptureFixture) -> None:
    write_noise(Path("course"))
    missing = next(Path("course/train").rglob("3.png"))
    missing.unlink()
    assert main(["data", "check", "course", "--no-progress"]) == 1
    out, err = capsys.readouterr()
    assert f"fault: {missing}: frame is missing" in out
    assert out.endswith("1 fault\n")
    assert not err


def test_fix_writes_a_copy_and_judges_that(capsys: pytest.CaptureFixture) -> None:
    write_noise(Path("course"))
    next(Path("course/train").rglob("3.png")).unlink()
    before = {file: file.stat().st_mtime_ns for file in Path("course").rglob("*")}
    assert main(["data", "check", "course", "--fix", "fixed", "--no-progress"]) == 0
    out = capsys.readouterr().out
    verdicts = [line for line in out.splitlines() if line.startswith(("1 fault", "no faults"))]
    assert [verdict.partition(",")[0] for verdict in verdicts] == ["1 fault", "no faults"]
    assert "fixed: a repaired copy of course" in out
    assert before == {file: file.stat().st_mtime_ns for file in Path("course").rglob("*")}
    # The frame cannot be invented, so the clip was left out; the others are there.
    assert main(["data", "check", "fixed", "--no-progress"]) == 0
    assert main(["data", "check", "course", "--fix", "fixed", "--no-progress"]) == 2
    assert "fixed: is not empty" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "pack"])
@pytest.mark.parametrize("name", ["x.tfrecords", "x.tar", "x.npz", "records"])
def test_records_must_be_converted_first(
    command: str, name: str, capsys: pytest.CaptureFixture
) -> None:
    if name == "records":
        Path("records/train").mkdir(parents=True)
        Path("records/train/traj_0_to_255.tfrecords").write_bytes(b"records")
    else:
        Path(name).write_bytes(b"records")
    assert main(["data", command, name, "--no-progress"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"labkit data {command}: {name}: ")
    assert "labkit data convert" in err
    assert err.count("\n") == 1


def test_convert_hands_on_its_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    calls: list[tuple] = []

    def convert(*places: Path, **options: object) -> dict:
        calls.append((*places, options))
        return {"splits": {"train": 3, "test": 1}}

    monkeypatch.setattr(labkit.data.convert, "convert", convert)
    assert main(["data", "convert", "a.tar", "b"]) == 0
    assert capsys.readouterr().out == "b: 3 train, 1 test clips; next: labkit data check b\n"
    main(
        [
            "data",
            "convert",
            "a.tar",
            "b",
            "--layout",
            "--camera",
            "main",
            "--workers",
            "3",
            "--no-progress",
        ]
    )
    plain = {"camera": None, "to": "pack", "workers": None, "progress": True}
    other = {"camera": "main", "to": "layout", "workers": 3, "progress": False}
    for (*places, given), expected in zip(calls, (plain, other), strict=True):
        assert places == [Path("a.tar"), Path("b")]
        assert {name: given[name] for name in expected} == expected


def test_download_hands_on_its_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    calls: list[tuple] = []

    def download(what: str, out: Path, **options: object) -> Path:
        calls.append((what, out, options))
        return out / "x.tar"

    monkeypatch.setattr(labkit.data.download, "download", download)
    assert main(["data", "download", "bair"]) == 0
    assert capsys.readouterr().out == "next: labkit data convert data/x.tar data/bair\n"
    main(["data", "download", "bair-test", "--out", "d", "--url", "http://x/y", "--no-progress"])
    assert calls == [
        ("bair", Path("data"), {"url": None, "progress": True}),
        ("bair-test", Path("d"), {"url": "http://x/y", "progress": False}),
    ]


@pytest.mark.parametrize("what", labkit.data.download.OFFICIAL)
def test_download_offers_what_there_is(what: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["data", "download", what, "--url", "x"]) == 2
    assert "x: is no address of a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("data download bair", "interrupted; the same command goes on where it stopped"),
        ("data convert a.tar b", "interrupted; the same command goes on where it stopped"),
        ("data check c", "interrupted"),
        ("data pack c", "interrupted"),
    ],
)
def test_ctrl_c_is_one_line(
    line: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    name = line.split()[1]
    module = importlib.import_module(f"labkit.data.{name}")
    monkeypatch.setattr(module, "ensure_pack" if name == "pack" else name, interrupted)
    assert main(line.split()) == 130
    assert capsys.readouterr().err == f"labkit data {name}: {said}\n"


def test_doctor_says_what_is_there(capsys: pytest.CaptureFixture) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for word in ("python", "torch", "device", "threads", "LPIPS", "Chromium", "ffmpeg"):
        assert word in shown


def test_a_long_command_of_doctor_has_a_line_of_its_own() -> None:
    commands = [how_to_get(name) for name in ("alex", "vgg")]
    facts = {f"LPIPS ({n})": f"absent; {command}" for n, command in enumerate(commands)}
    facts |= {"MuJoCo": 'absent; examples/fetchpush.py needs it: pip install "labkit[robots]"'}
    lines = render({"optional": facts}).splitlines()
    assert max(map(len, lines)) <= 80
    copied = [each.partition(": ")[2] for each in commands]
    for command in [*copied, 'pip install "labkit[robots]"']:
        assert f"  {command}" in lines
