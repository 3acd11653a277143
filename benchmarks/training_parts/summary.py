"""One table of what the training benchmarks found, beside what was aimed at.

    python benchmarks/training_parts/summary.py

prints it from what `training.py` and `time_to_quality.py` last left in runs/benchmarks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

FOLDER = Path("runs/benchmarks")

Finding = tuple[str, str, str]
"""what, what was found, what was aimed at"""


def keep(name: str, command: str, findings: Sequence[Finding], folder: Path = FOLDER) -> None:
    """Leaves the findings of a script for the table.

    Args:
        name: of the script.
        command: that found them.
        findings: its rows.
        folder: where to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {"command": command, "findings": list(findings)}
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def table(folder: Path = FOLDER) -> Iterator[str]:
    """The lines of the table; of a script that has not run there is nothing."""
    yield "| what | found | aim | command |"
    yield "| --- | --: | --: | --- |"
    for file in sorted(folder.glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        for what, found, aim in content["findings"]:
            yield f"| {what} | {found} | {aim} | `{content['command']}` |"


if __name__ == "__main__":
    print("\n".join(table()))
