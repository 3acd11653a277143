"""The command `labkit`. A user's mistake ends in one line on stderr and exit code 2."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence

from labkit.cli.commands import Demo, Doctor, Predict, Train
from labkit.cli.comparison_commands import Compare, Experiment
from labkit.cli.course_commands import CheckExercises, Handout
from labkit.cli.data_commands import Check, Convert, Download, Pack, Simulate
from labkit.cli.evaluate_command import Evaluate
from labkit.cli.evaluation_commands import Control, Prove
from labkit.cli.grade_command import Grade
from labkit.cli.import_command import Import
from labkit.cli.reading import Group, find, read
from labkit.cli.submit_command import Submit
from labkit.config import Config
from labkit.course_names import in_lab_words
from labkit.errors import LabkitError
from labkit.fields import differences
from labkit.presets import PRESETS, preset

LABKIT = Group(
    "A lab on conditional video prediction: from the CVAE's ELBO to predicted frames.",
    {
        "demo": Demo,
        "data": Group(
            "Simulate, download, convert, check and pack data sets.",
            {
                "simulate": Simulate,
                "download": Download,
                "convert": Convert,
                "check": Check,
                "pack": Pack,
            },
        ),
        "train": Train,
        "evaluate": Evaluate,
        "compare": Compare,
        "experiment": Experiment,
        "prove": Prove,
        "control": Control,
        "predict": Predict,
        "import": Import,
        "handout": Handout,
        "check": CheckExercises,
        "submit": Submit,
        "grade": Grade,
        "doctor": Doctor,
    },
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the words after `labkit`; those of the process if left out.

    Returns:
        The exit code: 0, 1 where a check found something unusable, 2 for a mistake (with one
        line on stderr), 130 when interrupted, 143 when a training was ended by SIGTERM.
    """
    program, kind = "labkit", None
    try:
        program, kind, rest = find(LABKIT, sys.argv[1:] if arguments is None else arguments)
        command = _read_train(program, rest) if kind is Train else read(program, kind, rest)
        return command.run() or 0
    except LabkitError as error:
        return _say(program, str(error), 2)
    except BrokenPipeError:  # the reader of the output has closed it: `labkit ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        what = "the output or a file" if error.filename is None else error.filename
        return _say(program, f"{what}: {error.strerror or error}", 2)
    except KeyboardInterrupt as stop:  # one that has saved says how to go on
        said = str(stop) or getattr(kind, "interrupted", "interrupted")
        return _say(program, said, getattr(stop, "code", 130))
    except SystemExit as stop:  # once a help text is printed
        return int(stop.code or 0)
    return 0


def _read_train(program: str, words: Sequence[str]) -> Train:
    """Reads `labkit train`. The defaults are those of the preset, or of the run to resume."""
    words = in_lab_words(words)
    named = words[0] if words and words[0] in PRESETS else "demo"
    defaults = Train(preset=named, config=preset(named))
    command = read(program, Train, words, defaults)
    if command.resume and (command.folder / "config.json").is_file():
        saved = Config.load(command.folder / "config.json")
        if words and words[0] in PRESETS:
            _say_whose_settings(command, saved)
        return read(program, Train, words, dataclasses.replace(defaults, config=saved))
    if command.init_from is not None:
        saved = Config.load(command.init_from / "config.json")
        begun = dataclasses.replace(preset(command.preset), data=saved.data, model=saved.model)
        defaults = Train(preset=command.preset, config=begun)
        return read(program, Train, words, defaults)
    if command.preset != named:
        defaults = Train(preset=command.preset, config=preset(command.preset))
        return read(program, Train, words, defaults)
    return command


def _say_whose_settings(command: Train, saved: Config) -> None:
    """Prints a note where a preset is named beside --resume and the run has other settings."""
    own, others = saved.to_dict(), preset(command.preset).to_dict()
    del own["data"], others["data"]
    differing = differences(others, own)
    if differing:
        shown = "; ".join(differing[:3])
        more = f"; and {len(differing) - 3} more" if len(differing) > 3 else ""
        print(
            f"{command.folder} goes on with its own settings, which are not those of the preset "
            f"{command.preset}: {shown}{more}",
            file=sys.stderr,
        )


def _say(program: str, message: str, code: int) -> int:
    lines = (line.strip() for line in message.splitlines())
    print(f"{program}: {' '.join(filter(None, lines))}", file=sys.stderr)
    return code
