"""The files that set the lab up: they agree with each other, and name no machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins() -> dict[str, str]:
    """The versions in constraints.txt, by canonical name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def test_environment_is_python_pip_and_this_project() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert set(environment) == {"name", "dependencies"}
    assert environment["dependencies"] == ["python>=3.11", "pip", {"pip": ["-e .[test]"]}]


def test_constraints_are_exact_versions_and_nothing_else() -> None:
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        plain = re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.]+", line)
        assert plain or line.startswith("#"), line
        assert "://" not in line, line
    assert "labkit" not in pins()


def test_constraints_cover_every_dependency_and_satisfy_it() -> None:
    known = pins()
    extras = PROJECT["optional-dependencies"]
    for text in [*PROJECT["dependencies"], *(line for extra in extras.values() for line in extra)]:
        requirement = Requirement(text)
        version = known.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} has no version in constraints.txt"
        assert requirement.specifier.contains(version), f"{text} is pinned at {version}"


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps no executable bit")
def test_ci_runs_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").splitlines()[-1] == "exec make test"
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    steps = yaml.safe_load(workflow)["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]


def test_make_has_the_five_commands_and_each_sets_up_first() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in ("demo", "lab", "test", "notebooks", "bench"):
        assert re.search(rf"^{name}: \$\(READY\)$", makefile, re.MULTILINE), name
    assert re.search(r"^\$\(READY\): pyproject\.toml constraints\.txt$", makefile, re.MULTILINE)


def test_lab_setup_makes_every_run_the_same() -> None:
    # In a process of its own: it changes settings of the whole process.
    code = """
import random, sys, torch, tqdm, numpy as np
import labkit
def draws():
    labkit.lab_setup(seed=3)
    return random.random(), float(np.random.rand()), float(torch.rand(()))
assert draws() == draws()
assert torch.get_num_threads() == 1 and torch.are_deterministic_algorithms_enabled()
list(tqdm.tqdm(range(3)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    line = "labkit is ready: seed 3, one thread, deterministic."
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [line, line]
