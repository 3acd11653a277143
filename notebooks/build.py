"""Makes notebooks/*.ipynb from notebooks/*.py: `make notebooks`, or
`.venv/bin/python notebooks/build.py 03 05` for some of them.

The .py beside each .ipynb is its source, in jupytext's py:percent form: it is what is edited
and reviewed. (They are not paired in jupytext's sense: a reader who plays in JupyterLab
changes the .ipynb alone.) Everything that would differ from one run to the next on the same
code is taken out, so that a second run writes the same bytes.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from labkit.files import write_whole

HERE = Path(__file__).parent
WIDGETS = "application/vnd.jupyter.widget-state+json"
SECONDS_A_CELL = 600


def sources() -> list[Path]:
    """The notebooks' sources: the .py files whose name begins with a number."""
    return sorted(HERE.glob("[0-9][0-9]_*.py"))


def read_source(file: Path) -> NotebookNode:
    """The notebook that a source describes, not executed."""
    notebook = jupytext.read(file, fmt="py:percent")
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def execute(notebook: NotebookNode) -> None:
    """Runs every cell, in a kernel of this Python, and stores the outputs."""
    described = notebook.metadata.copy()
    NotebookClient(
        notebook,
        kernel_name="python3",
        resources={"metadata": {"path": str(HERE)}},
        timeout=SECONDS_A_CELL,
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=True,
        # Else each kernel warns that it listens on a local TCP port, as all of Jupyter's do.
        extra_arguments=["--log-level=ERROR"],
    ).execute()
    # The kernel's version of Python is added to language_info; the widgets' state is kept.
    widgets = notebook.metadata.get("widgets")
    notebook.metadata = NotebookNode(described, **({"widgets": widgets} if widgets else {}))


def with_stable_widget_ids(text: str, notebook: NotebookNode) -> str:
    """Numbers the widgets of a notebook's JSON in the order in which they were made."""
    state = notebook.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {})
    number = {random: f"{position:032x}" for position, random in enumerate(state)}
    hexadecimal = r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])"
    return re.sub(hexadecimal, lambda found: number.get(found[0], found[0]), text)


def build(source: Path) -> Path:
    """Executes one source and writes its .ipynb, whole or not at all."""
    notebook = read_source(source)
    execute(notebook)
    nbformat.validate(notebook)
    text = with_stable_widget_ids(nbformat.writes(notebook), notebook)
    # The ids are stable now, and a widget without its kernel is better not shown as if it were
    # alive: what stands in its place in a saved notebook is up to the view.
    notebook = nbformat.reads(text, as_version=4)
    notebook.metadata.pop("widgets", None)
    text = nbformat.writes(notebook)
    target = source.with_suffix(".ipynb")
    write_whole(target, text + "\n")
    return target


def main(names: list[str]) -> None:
    """Builds every notebook, or those whose file name begins with one of `names`."""
    for source in sources():
        if not names or source.name.startswith(tuple(names)):
            print(f"executing {source.name}", flush=True)
            build(source)


if __name__ == "__main__":
    main(sys.argv[1:])
