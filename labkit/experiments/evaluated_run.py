"""What a comparison reads of a run: its config, its history and its evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from labkit.config import Config
from labkit.errors import LabkitError, RunError
from labkit.evaluation import Evaluation
from labkit.reporting.evaluate_run import evaluation_file
from labkit.training import read_history
from labkit.training.checkpoint import CONFIG, WEIGHTS


@dataclass(frozen=True)
class Judged:
    """A run that was trained and evaluated."""

    folder: Path
    config: Config
    history: dict[str, Float[np.ndarray, " epochs"]]
    evaluation: Evaluation

    @property
    def seed(self) -> int:
        """Of the training."""
        return self.config.seed


def read_judged(folder: Path, protocol: str = "frame") -> Judged:
    """Reads a run that was evaluated by that protocol.

    Raises:
        RunError: it is no run, was not evaluated by that protocol, or was trained on since.
    """
    if not folder.is_dir():
        raise RunError("no such run folder", file=folder, hint="labkit train makes one")
    if not (folder / CONFIG).is_file():
        raise RunError(f"not the folder of a run: it has no {CONFIG}", file=folder)
    file = evaluation_file(folder, protocol)
    command = f"labkit evaluate {folder}"
    command += "" if protocol == "frame" else f" --protocol {protocol}"
    if not file.is_file():
        raise RunError("the run was not evaluated", file=folder, hint=f"run {command}")
    try:
        evaluation = Evaluation.load(file)
    except RunError as error:
        raise RunError(error.what, file=file, hint=f"run {command}") from None
    if evaluation.made_with.get("weights") not in (None, weights_of(folder)):
        raise RunError(
            "the run was trained on since it was evaluated", file=folder, hint=f"run {command}"
        )
    return Judged(folder, Config.load(folder / CONFIG), read_history(folder), evaluation)


def weights_of(folder: Path) -> str:
    """What an evaluation keeps of the weights it judged: the start of their SHA-256."""
    file = folder / WEIGHTS
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file.is_file() else ""


def names_of(folders: Sequence[Path]) -> dict[str, Path]:
    """The runs under the shortest ends of their paths that tell them apart.

    Raises:
        LabkitError: less than two runs, or one of them twice.
    """
    if len(folders) < 2:
        raise LabkitError(
            "nothing to compare with: only one run was given" if folders else "no run was given",
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
        seed: whether the seed counts.
    """
    flat = [dict(_flat(config.to_dict())) for config in configs.values()]
    found = {name: [each[name] for each in flat] for name in flat[0]}
    return {
        name: values
        for name, values in found.items()
        if any(value != values[0] for value in values) and (seed or name != "seed")
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        pairs += _flat(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return pairs
