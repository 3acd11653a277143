"""The report of `labkit doctor`: versions, device, threads, missing optional parts."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "pymunk",
    "torchmetrics",
    "matplotlib",
    "ipywidgets",
    "jupyterlab",
    "tyro",
)
"""The packages whose version explains most differences between two machines."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
"""Names under which a Chromium is found on PATH."""


DRAW = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light pos='0 0 2'/>"
    "<geom size='.1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 64, 64)
renderer.update_scene(data)
frame = renderer.render()
renderer.close()
raise SystemExit(int(frame.max() == 0))
"""
"""A program that draws a ball with MuJoCo, and ends with 0 if it can be seen."""


def diagnose() -> dict[str, dict[str, str]]:
    """Facts by section (`versions`, `machine`, `optional`), each a name and one line."""
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": _machine(),
        "optional": {
            **_lpips(),
            "Chromium": _found(find_chromium(), "the tests in a browser skip"),
            "MuJoCo": draws_mujoco() or "draws; examples/fetchpush.py runs",
            "ffmpeg": _found(shutil.which("ffmpeg"), "not needed; GIFs work without it"),
        },
    }


def render(facts: dict[str, dict[str, str]]) -> str:
    """The facts of `diagnose` as aligned lines of text. A command that does not fit a line of 80
    characters has a line of its own, so that it can be copied."""
    width = max(len(name) for section in facts.values() for name in section)
    lines = []
    for title, section in facts.items():
        lines.append(title)
        for name, fact in section.items():
            line = f"  {name:<{width}}  {fact}"
            before, colon, command = line.rpartition(": ")
            fits = len(line) <= 80 or not colon
            lines += [line] if fits else [f"{before}:", f"  {command}"]
    return "\n".join(lines)


def find_chromium() -> Path | None:
    """The Chromium that the tests in a browser use: one on PATH, else playwright's own."""
    on_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if on_path is not None:
        return Path(on_path)
    if importlib.util.find_spec("playwright") is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    return own if own.exists() else None


def draws_mujoco() -> str | None:
    """What keeps the simulator MuJoCo from drawing a picture here; None where it draws. It is asked
    in another process: a graphics library that fails may end its process."""
    if any(importlib.util.find_spec(name) is None for name in ("gymnasium_robotics", "mujoco")):
        return 'absent; examples/fetchpush.py needs it: pip install "labkit[robots]"'
    environment = {"MUJOCO_GL": "egl", **os.environ}
    command = [sys.executable, "-c", DRAW]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    except subprocess.TimeoutExpired:
        return "drawing took more than two minutes"
    if done.returncode:
        return "cannot draw: apt-get install libegl1 libgl1, and set MUJOCO_GL=egl"
    return None


def _versions() -> dict[str, str]:
    found = {}
    for name in ("labkit", *PACKAGES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent: install labkit again"
    return found


def _machine() -> dict[str, str]:
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        device = f"{torch.cuda.get_device_name(0)} (cuda, {memory:.0f} GiB)"
    elif torch.backends.mps.is_available():
        device = "Apple GPU (mps)"
    else:
        device = "CPU; no GPU that torch can use"
    return {
        "system": f"{platform.system()} on {platform.machine()}",
        "device": device,
        "threads": f"{torch.get_num_threads()} for torch, on {os.cpu_count()} CPU cores",
    }


def _lpips() -> dict[str, str]:
    """LPIPS needs a network's weights in torch's cache."""
    from labkit.evaluation.perceptual import NETWORKS, how_to_get, weights_file

    there = {name: weights_file(name) for name in NETWORKS}  # type: ignore[arg-type]
    return {
        f"LPIPS ({name})": str(file) if file.is_file() else f"absent; {how_to_get(name)}"  # type: ignore[arg-type]
        for name, file in there.items()
    }


def _found(path: Path | str | None, otherwise: str) -> str:
    return f"absent: {otherwise}" if path is None else str(path)
