"""Does everything that labkit does on a GPU work on this one, and how fast is it?

    python benchmarks/gpu_check.py    less than 8 minutes on one Nvidia GPU

Runs the tests marked `gpu` (predictions as on the CPU to 1e-4, bf16, compiled parts, CUDA graphs,
clips in the GPU's memory), then `benchmarks/training.py --quick`. A part that fails does not stop
the other. The table at the end says what passed and how long it took. The exit code is 1 if
something failed, 2 without a GPU or where packages are missing; those are listed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
import xml.etree.ElementTree
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
MOST_SECONDS = {"tests": 270, "training": 200}
"""after which each part is ended, so that both together take less than 8 minutes"""
NEEDED = {
    "beartype",
    "docstring_parser",
    "einops",
    "filelock",
    "jaxtyping",
    "matplotlib",
    "numpy",
    "pillow",
    "pymunk",
    "pytest",
    "safetensors",
    "scipy",
    "torch",
    "torchmetrics",
    "torchvision",
    "tqdm",
    "tyro",
}
"""packages of pyproject.toml that both parts import; the others need not be installed"""

Row = tuple[str, str, float]
"""what was done, its outcome, seconds"""


def missing() -> list[str]:
    """The requirements in NEEDED that are not met here, as pip takes them."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return ["packaging"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = []
    for text in (*project["dependencies"], *project["optional-dependencies"]["test"]):
        requirement = Requirement(text)
        if requirement.name not in NEEDED:
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            version = None
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            found.append(text)
    return found


def tests_on_the_gpu() -> list[Row]:
    """Runs the tests marked `gpu`, each a row. A test that was skipped has not passed."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # Warnings of other versions of the packages are no faults here.
        words = ["-m", "pytest", "-v", "-m", "gpu", "-o", "filterwarnings=default"]
        words += ["tests/gpu", f"--junitxml={report}"]
        outcome, seconds = ended([sys.executable, *words], MOST_SECONDS["tests"])
        return rows_of(report) if report.is_file() else [("tests marked gpu", outcome, seconds)]


def rows_of(report: Path) -> list[Row]:
    """The tests of a JUnit report."""
    rows = []
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        bad = next(
            (child.tag for child in case if child.tag in ("failure", "error", "skipped")), ""
        )
        rows.append((case.get("name", ""), bad or "passed", float(case.get("time", 0))))
    return rows or [("tests marked gpu", "none was run", 0.0)]


def ended(command: list[str], most: float) -> tuple[str, float]:
    """Runs a command from the repository's root; its outcome and its seconds. When the time is
    over, its own processes end too, so that they do not keep the GPU."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        code = process.wait(most)
        outcome = "passed" if code == 0 else f"exit code {code}"
    except subprocess.TimeoutExpired:
        outcome = f"not done after {most:g} s"
    finally:
        if process.poll() is None:
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()
    return outcome, time.perf_counter() - start


def main() -> int:
    """Runs both parts and prints the table."""
    if lacking := missing():
        quoted = " ".join(f"'{each}'" for each in lacking)
        print(f"gpu_check: missing here: {', '.join(lacking)}", file=sys.stderr)
        print(f"  with a network:    python -m pip install {quoted}", file=sys.stderr)
        print(
            f"  without a network: python -m pip download --dest wheels {quoted} on a machine of "
            f"the same kind, then here: python -m pip install --no-index --find-links wheels "
            f"{quoted}",
            file=sys.stderr,
        )
        return 2
    import torch

    if not torch.cuda.is_available():
        print("gpu_check: this machine has no CUDA device that torch can use.", file=sys.stderr)
        return 2
    rows = tests_on_the_gpu()
    # Without larger batches: every batch size is compiled anew, which takes most of the time.
    training = [sys.executable, "benchmarks/training.py", "--quick", "--batches"]
    rows.append(("benchmarks/training.py --quick", *ended(training, MOST_SECONDS["training"])))
    print(f"\n{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    width = max(len(name) for name, _, _ in rows)
    for name, outcome, seconds in rows:
        print(f"{name:<{width}}  {outcome:<12}  {seconds:6.1f} s")
    return int(any(outcome != "passed" for _, outcome, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
