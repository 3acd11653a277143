"""The command as a process: any console, closed and full outputs, Ctrl-C at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import labkit.__main__ as process

PACKAGE = Path(process.__file__).parents[1]
NOT_UTF8 = os.fsdecode(b"run \xff $x 'a'")


def labkit(*words: str, encoding: str = "utf-8", **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "labkit", *words]
    return subprocess.run(command, env=environment, capture_output=True, **options)


@pytest.mark.parametrize("encoding", ["cp950", "cp1252", "ascii"])
def test_help_can_be_printed_on_any_console(encoding: str) -> None:
    done = labkit("train", "--help", encoding=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"KL weight" in done.stdout


def test_what_a_console_lacks_is_written_in_ascii() -> None:
    text = "25.0 \xb1 0.1\xa0dB, \u22121 \u2192 \u2248 \xe9 \udcff"
    assert process.in_plain_characters(UnicodeEncodeError("ascii", text, 0, len(text), "")) == (
        "25.0 +/- 0.1 dB, -1 -> ? e \\xff",
        len(text),
    )


def test_a_name_that_is_not_utf8_is_a_sentence(tmp_path: Path) -> None:
    done = labkit("evaluate", NOT_UTF8, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(b"labkit evaluate: run \\xff $x 'a': not the folder of a run")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("words", [["--help"], ["train", "--help"]])
def test_a_full_output_is_a_sentence(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "labkit", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("labkit")
    assert "the output" in done.stderr
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("ends", ["1", "2", "1 2"])
def test_a_closed_output_is_no_traceback(ends: str) -> None:
    closed = " ".join(f"{end}>&-" for end in ends.split())
    shell = f'"{sys.executable}" -m labkit train dmeo {closed}; echo code $? >&9'
    done = subprocess.run(
        ["bash", "-c", f"exec 9>&1; {shell}"], capture_output=True, text=True, check=True
    )
    assert "code 2" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_closed_pipe_is_no_traceback() -> None:
    shell = f'set -o pipefail; "{sys.executable}" -m labkit train --help 2>&1 | true'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
    assert done.stdout + done.stderr == ""


START = """
import os, signal, sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.argv = ["labkit", "train", "smoke", "--data.root", "nowhere", "--no-progress"]
from labkit.__main__ import start
sys.meta_path.insert(0, Interrupts())
sys.exit(start())
"""


@pytest.mark.parametrize("module", ["labkit.cli", "tyro", "torch", "labkit.training"])
def test_ctrl_c_before_training_begins_is_no_traceback(module: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START.format(module=module)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
    )
    assert done.stderr in ("", "labkit: interrupted\n")
    assert done.returncode in (-signal.SIGINT, 130)


def test_ctrl_c_within_a_command_is_raised_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail("outside an import"))
    with pytest.raises(KeyboardInterrupt):
        process._interrupt(signal.SIGINT, sys._getframe())
