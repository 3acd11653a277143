"""Does everything that labkit does on a GPU work on this one, and how fast is it?

    python benchmarks/gpu_check.py    less than 8 minutes on one Nvidia GPU

Runs the tests marked `gpu` (predictions as on the CPU to 1e-4, bf16, compiled parts, CUDA graphs,
clips in the GPU's memory), then `benchmarks/training.py --quick`. The table at the end says what
passed and how long it took. The exit code is 1 if something failed, 2 without a GPU.
"""

from __future__ import annotations

import subprocess
import sys
import time
import xml.etree.ElementTree
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

ROOT = Path(__file__).parent.parent
MOST_SECONDS = {"tests": 270, "training": 200}
"""after which each part is ended, so that both together take less than 8 minutes"""

Row = tuple[str, str, float]
"""what was done, its outcome, seconds"""


def tests_on_the_gpu() -> list[Row]:
    """Runs the tests marked `gpu`, each a row. A test that was skipped has not passed."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words = ["-m", "pytest", "-q", "-m", "gpu", "tests/gpu", f"--junitxml={report}"]
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
    """Runs a command from the repository's root; its outcome and its seconds."""
    start = time.perf_counter()
    try:
        code = subprocess.run(command, cwd=ROOT, timeout=most, check=False).returncode
        outcome = "passed" if code == 0 else f"exit code {code}"
    except subprocess.TimeoutExpired:
        outcome = f"not done after {most:g} s"
    return outcome, time.perf_counter() - start


def main() -> int:
    """Runs both parts and prints the table."""
    if not torch.cuda.is_available():
        print("gpu_check: this machine has no CUDA device that torch can use.", file=sys.stderr)
        return 2
    rows = tests_on_the_gpu()
    training = [sys.executable, "benchmarks/training.py", "--quick"]
    rows.append(("benchmarks/training.py --quick", *ended(training, MOST_SECONDS["training"])))
    print(f"\n{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    width = max(len(name) for name, _, _ in rows)
    for name, outcome, seconds in rows:
        print(f"{name:<{width}}  {outcome:<12}  {seconds:6.1f} s")
    return int(any(outcome != "passed" for _, outcome, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
