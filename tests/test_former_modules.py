"""Modules under their former names: older scripts go on, with a warning."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

import labkit.model.import_weights
import labkit.training


def imported_anew(name: str):
    sys.modules.pop(name, None)
    with pytest.warns(FutureWarning, match=name):
        return importlib.import_module(name)


@pytest.mark.parametrize(
    ("former", "today"),
    [
        ("labkit.learning", labkit.training),
        ("labkit.model.compat", labkit.model.import_weights),
    ],
)
def test_a_module_has_its_former_name_too(former: str, today) -> None:
    module = imported_anew(former)
    names = [name for name in vars(module) if not name.startswith("_") and hasattr(today, name)]
    assert set(names) >= set(getattr(today, "__all__", ("PARTS", "load_reference", "read_states")))
    for name in set(names) - {"train"}:
        assert getattr(module, name) is getattr(today, name)


class Watcher:
    updates = 0

    def on_update(self, update) -> None:
        self.updates += 1

    def on_epoch(self, epoch_end) -> None:
        pass

    def close(self) -> None:
        pass


def test_callbacks_may_be_called_watchers(smoke, tmp_path: Path) -> None:
    learning, watcher = imported_anew("labkit.learning"), Watcher()
    with pytest.warns(FutureWarning, match="callbacks"):
        learning.train(smoke, tmp_path / "run", progress=False, watchers=[watcher])
    assert watcher.updates == smoke.training.epochs * smoke.training.updates_per_epoch
