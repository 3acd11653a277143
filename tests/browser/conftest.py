"""A real Chromium for each file of this folder, and one real JupyterLab for all of them."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.sign import NotebookNotary
from PIL import Image

from labkit.doctor import find_chromium

SWITCHES = [
    "--no-sandbox",  # as root, in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# A traceback, and whatever else a cell writes to stderr.
FAILED = ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']"

# What JupyterLab itself writes as an error when its kernel is taken away, or at its start.
NOT_OURS = ("WebSocket", "/api/", "/lab/api/", "Failed to load resource", "Kernel", "kernel")


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab."""

    url: str
    folder: Path
    """what it serves; a test writes its files here"""
    data: Path
    """its JUPYTER_DATA_DIR, which has the signatures of trusted notebooks"""

    def save_notebook(self, name: str, cells: Sequence[tuple[str, dict | None]]) -> str:
        """Writes a notebook as it lies in a repository: executed elsewhere, saved with outputs.

        Args:
            name: its file name.
            cells: source and the stored output of each, a mimebundle, or None for no output.

        Returns:
            the address that opens it.
        """
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        content = {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {"kernelspec": kernel},
            "cells": [
                {
                    "cell_type": "code",
                    "id": f"cell-{number}",
                    "metadata": {},
                    "execution_count": None if bundle is None else number,
                    "source": source,
                    "outputs": [] if bundle is None else [_output(bundle, number)],
                }
                for number, (source, bundle) in enumerate(cells, start=1)
            ],
        }
        (self.folder / name).write_text(json.dumps(content), encoding="utf-8")
        # A workspace of its own: JupyterLab would open the notebooks of earlier tests again.
        return f"{self.url}/lab/workspaces/{Path(name).stem}/tree/{name}"

    def save_trusted(self, file: Path) -> str:
        """Copies an executed notebook and trusts it, as `jupyter trust` does: scripts in its saved
        outputs run.

        Returns:
            the address that opens it.
        """
        notebook = nbformat.read(file, as_version=4)
        NotebookNotary(data_dir=str(self.data)).sign(notebook)
        (self.folder / file.name).write_text(nbformat.writes(notebook), encoding="utf-8")
        return f"{self.url}/lab/workspaces/{file.stem}/tree/{file.name}"

    def run_cell(self, page, number: int, wanted: str) -> None:
        """Runs a cell and waits for what it shows; if that is a traceback, the test says so.

        Args:
            page: an open notebook.
            number: the cell's place, from 0.
            wanted: a selector of what the cell shows, and what is not there yet.
        """
        page.get_by_text("| Idle").wait_for()
        cell = page.locator(".jp-Notebook .jp-CodeCell").nth(number)
        for attempt in range(600):
            # What is asked of a kernel that has only just started can be lost, and the cell
            # then looks as if nobody had run it.
            never_run = cell.locator(".jp-InputPrompt").text_content() == "[ ]:"
            if attempt == 0 or (never_run and attempt % 50 == 0):
                cell.locator(".jp-InputArea-editor").click()
                page.keyboard.press("Shift+Enter")
            page.wait_for_timeout(200)
            if page.locator(f"{wanted}, {FAILED}").count():
                break
        assert page.locator(FAILED).all_text_contents() == []
        page.locator(wanted).first.wait_for()

    def run_all_cells(self, page, seconds: int) -> None:
        """Runs an open notebook by the menu, waits until its kernel is idle, and saves it.

        Args:
            page: an open notebook.
            seconds: how long the cells may take in all.
        """
        page.get_by_text("| Idle").wait_for()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        for _ in range(seconds):
            page.wait_for_timeout(1000)
            prompts = page.locator(".jp-Notebook .jp-CodeCell .jp-InputPrompt")
            waiting = {"[ ]:", "[*]:"} & set(prompts.all_text_contents())
            if not waiting and page.get_by_text("| Idle").count():
                break
            if page.locator(FAILED).count():  # the cells below are then never run
                break
        page.keyboard.press("Control+s")
        page.locator(".jp-mod-dirty").wait_for(state="detached")

    def set_theme(self, name: str) -> None:
        """Pages opened from now on have that theme, such as "JupyterLab Dark"."""
        self._set("apputils-extension:themes", {"theme": name})

    def keep_quiet(self) -> None:
        """No question whether news should be fetched."""
        quiet = {"fetchNews": "false", "checkForUpdates": False}
        self._set("apputils-extension:notification", quiet)

    def save_course(self, source: Path) -> str:
        """Copies a folder of notebooks and of the runs that they read. The copies have no outputs.

        Returns:
            the copied folder's name; in an address it stands before the notebook's name.
        """
        target = self.folder / "course"
        if not target.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.py", ".*", "_*"))
            for file in target.glob("*.ipynb"):
                notebook = nbformat.read(file, as_version=4)
                for cell in notebook.cells:
                    if cell.cell_type == "code":
                        cell.outputs, cell.execution_count = [], None
                nbformat.write(notebook, file)
        return target.name

    def show_every_cell(self) -> None:
        """Cells outside of the window are part of the page, too."""
        self._set("notebook-extension:tracker", {"windowingMode": "none"})

    def stop_kernels(self) -> None:
        """Ends every kernel through the REST API, as the menu would."""
        assert self._ask("api/sessions"), "no kernel is running"
        self.clear()
        assert self._ask("api/kernels") == []

    def clear(self) -> None:
        """No kernel of one test runs beside the next test."""
        for session in self._ask("api/sessions"):
            self._ask(f"api/sessions/{session['id']}", "DELETE")

    def _set(self, plugin: str, settings: dict) -> None:
        path = f"lab/api/settings/@jupyterlab/{plugin}"
        self._ask(path, "PUT", {"raw": json.dumps(settings)})

    def _ask(self, path: str, method: str = "GET", body: dict | None = None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{path}", method=method, data=data)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None


def _output(bundle: dict, number: int) -> dict:
    kind = {"output_type": "execute_result", "execution_count": number}
    return {**kind, "metadata": {}, "data": bundle}


def absent(what: str) -> None:
    """Skips the test; in CI the browser tests must run, so there it fails."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}: CI needs it")
    pytest.skip(what)


def chromium_file() -> Path:
    """The Chromium to use; where there is none, the test is skipped, or fails in CI."""
    if importlib.util.find_spec("playwright") is None:
        absent("playwright is not installed")
    found = find_chromium()
    if found is None:
        absent("there is no Chromium; make test gets one")
    return found


@pytest.fixture
def lab(running_lab: Lab) -> Iterator[Lab]:
    """JupyterLab in its light theme, on a folder that is shared with the other tests."""
    running_lab.set_theme("JupyterLab Light")
    yield running_lab
    running_lab.clear()


@pytest.fixture(scope="session")
def running_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab on an empty folder, with settings of its own."""
    chromium_file()
    home = tmp_path_factory.mktemp("jupyter")
    folder = tmp_path_factory.mktemp("notebooks")
    (home / "data").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / "ipython"),
        # The machine's own config folders must not reach in.
        "JUPYTER_NO_CONFIG": "1",
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        "--ServerApp.ip=127.0.0.1",
        f"--LabApp.user_settings_dir={home / 'settings'}",
        f"--LabApp.workspaces_dir={home / 'workspaces'}",
    ]
    command += ["--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"]
    command += [f"--ServerApp.root_dir={folder}"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    log = home / "log.txt"
    with log.open("wb") as sink:
        server = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink, cwd=home)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, server, log)
        running = Lab(url, folder, home / "data")
        running.keep_quiet()
        yield running
    finally:
        server.terminate()
        server.wait(timeout=60)


def _wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(600):
        assert server.poll() is None, log.read_text(errors="replace")
        try:
            urllib.request.urlopen(f"{url}/api/status", timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"JupyterLab does not answer: {log.read_text(errors='replace')}")


# Of a file, not of the session: while playwright runs, nothing else in this process can use
# asyncio, and the notebooks' tests do.
@pytest.fixture(scope="module")
def chromium() -> Iterator:
    """A headless Chromium; the test is skipped where there is none."""
    found = chromium_file()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium) -> Iterator[Callable]:
    """Opens fresh pages; at the end none of them may have written an error to its console."""
    contexts, errors = [], []

    def note(message) -> None:
        text = f"{message.text} ({message.location.get('url', '')})"
        if message.type == "error" and not any(word in text for word in NOT_OURS):
            errors.append(text)

    def make(**options):
        context = chromium.new_context(viewport={"width": 1200, "height": 1000}, **options)
        # A busy machine may take a minute over a kernel's start and its imports; waiting costs
        # nothing where it is quick.
        context.set_default_timeout(120_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", note)
        return page

    yield make
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def page(open_page: Callable):
    """A fresh page of ordinary size."""
    return open_page()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where pages are pictured for a person to look at; git ignores it."""
    here = Path(__file__).parents[2] / "build" / "screenshots"
    folder = Path(os.environ.get("LABKIT_ARTEFACTS", here))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def seen() -> Callable:
    """`seen(locator, frames, scale)`: which of the frames is on the screen there, by its pixels.

    Every pixel of a frame is a square on the screen, whose middle is compared. None: no frame.
    """

    def step(locator, frames: np.ndarray, scale: int) -> int | None:
        shot = np.array(Image.open(io.BytesIO(locator.screenshot())).convert("RGB"))
        _, _, high, wide = frames.shape
        middle = shot[scale // 2 :: scale, scale // 2 :: scale][:high, :wide].transpose(2, 0, 1)
        same = [t for t, frame in enumerate(frames) if np.array_equal(frame, middle)]
        return same[0] if same else None

    return step


@pytest.fixture(scope="session")
def drag() -> Callable:
    """`drag(slider, step)`: takes the slider's thumb with the mouse, lets go over a time step."""

    def move(slider, step: int) -> None:
        box, last = slider.bounding_box(), int(slider.get_attribute("max"))
        y, run = box["y"] + box["height"] / 2, box["width"] - 16
        mouse = slider.page.mouse
        mouse.move(box["x"] + 8 + run * int(slider.input_value()) / last, y)
        mouse.down()
        mouse.move(box["x"] + 8 + run * step / last, y, steps=8)
        mouse.up()

    return move
