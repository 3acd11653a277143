"""What a comparison reads of a run: its config, its history and its evaluation."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from labkit.config import Config
from labkit.errors import LabkitError, RunError
from labkit.evaluation import Evaluation
from labkit.fields import flattened
from labkit.reporting.run_files import DEFAULT, Selection, evaluation_file
from labkit.training import read_history
from labkit.training.checkpoint import CONFIG, WEIGHTS
from labkit.training.history import HISTORY, EpochRow


@dataclass(frozen=True)
class EvaluatedRun:
    """A trained and evaluated run."""

    folder: Path
    config: Config
    history: dict[str, Float[np.ndarray, " epochs"]]
    evaluation: Evaluation

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return self.config.seed


def read_evaluated_run(folder: Path, selection: Selection | str = DEFAULT) -> EvaluatedRun:
    """Reads a run and its evaluation.

    Args:
        folder: the run's.
        selection: which of its evaluations; a text is the name of a protocol.

    Raises:
        RunError: the folder is not a run, it was not evaluated by that protocol, or its weights
            have changed since.
    """
    if not folder.is_dir():
        raise RunError("no such run folder", file=folder, hint="labkit train makes one")
    if not (folder / CONFIG).is_file():
        raise RunError(f"not the folder of a run: it has no {CONFIG}", file=folder)
    chosen = Selection(selection) if isinstance(selection, str) else selection
    file = evaluation_file(folder, chosen)
    words = ["labkit", "evaluate", str(folder)]
    words += [] if chosen.protocol == "frame" else ["--protocol", chosen.protocol]
    words += [] if chosen.clips is None else ["--clips", str(chosen.clips)]
    command = shlex.join(words)
    if not file.is_file():
        raise RunError("the run was not evaluated", file=folder, hint=f"run {command}")
    try:
        evaluation = Evaluation.load(file)
    except RunError as error:
        raise RunError(error.what, file=file, hint=f"run {command}") from None
    if evaluation.made_with.get("weights") not in (None, weights_of(folder)):
        what = "the run's weights have changed since it was evaluated"
        raise RunError(what, file=folder, hint=f"run {command}")
    return EvaluatedRun(folder, Config.load(folder / CONFIG), history_of(folder), evaluation)


def history_of(folder: Path) -> dict[str, Float[np.ndarray, " epochs"]]:
    """A run's history; for imported weights, which have none, one epoch of NaN.

    Raises:
        RunError: the history is damaged.
    """
    if (folder / HISTORY).is_file():
        return read_history(folder)
    return {item.name: np.full(1, np.nan) for item in dataclasses.fields(EpochRow)}


def weights_of(folder: Path) -> str:
    """The start of the SHA-256 of a run's weights, as an evaluation stores it."""
    file = folder / WEIGHTS
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file.is_file() else ""


def names_of(folders: Sequence[Path]) -> dict[str, Path]:
    """Names for the runs: the shortest ends of their paths that differ.

    Raises:
        LabkitError: less than two runs, or one of them twice.
    """
    if len(folders) < 2:
        raise LabkitError(
            "only one run was given" if folders else "no run was given",
            hint="labkit compare RUN RUN ...",
        )
    whole = [folder.resolve() for folder in folders]
    for place, folder in enumerate(whole):
        if folder in whole[:place]:
            raise LabkitError("the same run was given twice", file=folders[place])
    for length in range(1, max(len(folder.parts) for folder in whole) + 1):
        names = ["/".join(folder.parts[-length:]) for folder in whole]
        if len(set(names)) == len(names):
            break
    return dict(zip(names, folders, strict=True))


def differing(configs: Mapping[str, Config], *, seed: bool) -> dict[str, list[Any]]:
    """The settings that are not the same in all configs, by dotted name: a value a config.

    Args:
        configs: by name.
        seed: whether a different seed counts as a difference.
    """
    flat = [flattened(config.to_dict()) for config in configs.values()]
    found = {name: [each[name] for each in flat] for name in flat[0]}
    return {
        name: values
        for name, values in found.items()
        if any(value != values[0] for value in values) and (seed or name != "seed")
    }
