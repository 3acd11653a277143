"""A student's notebooks: executed from a clean kernel, and exported as pages that need no network.

The files themselves are not changed: what is executed is a copy in memory.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter, PythonExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from labkit.course.kernel_guard import start_options
from labkit.errors import LabkitError

try:
    from jinja2 import pass_context
except ImportError:  # pragma: no cover
    from jinja2 import contextfilter as pass_context  # type: ignore[no-redef]

SECONDS_A_CELL = 600
MOST_NOTEBOOK = 100_000_000
"""bytes of a notebook's file"""
MOST_SHOWN = 50_000_000
"""letters of one picture, table or value that a cell shows; a larger one is left out"""
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


@dataclass
class Notebook:
    """One notebook after its execution."""

    file: Path
    notebook: NotebookNode
    problem: str | None = None
    """the first cell that failed, and why; None where all ran"""

    @property
    def stem(self) -> str:
        """The file's name without its ending."""
        return self.file.stem

    def to_json(self) -> str:
        """The executed notebook; the same for the same outputs."""
        return nbformat.writes(self.notebook) + "\n"

    def to_python(self) -> str:
        """The code as a Python file."""
        body, _ = PythonExporter().from_notebook_node(self.notebook)
        return body


def read_notebook(file: Path) -> NotebookNode:
    """Reads a notebook's file.

    Raises:
        LabkitError: there is no such file, or it is no notebook.
    """
    try:
        if file.stat().st_size > MOST_NOTEBOOK:
            raise LabkitError(
                f"the notebook has {file.stat().st_size:,} bytes",
                file=file,
                hint="clear its outputs: Edit > Clear Outputs of All Cells",
            )
        return parsed_notebook(file.read_bytes(), file)
    except OSError as error:
        raise LabkitError(f"cannot be read: {error.strerror or error}", file=file) from None


def parsed_notebook(data: bytes, file: Path | str) -> NotebookNode:
    """A notebook from its bytes, in the newest format.

    Raises:
        LabkitError: it is no notebook.
    """
    try:
        notebook = nbformat.reads(data.decode("utf-8"), as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # what nbformat raises for a foreign file is not documented
        reason = str(error).strip().partition("\n")[0][:120]
        raise LabkitError(
            f"is not a readable notebook: {reason}", file=file, hint="save it again in JupyterLab"
        ) from None
    return notebook


def execute(
    file: Path,
    *,
    seconds: float = SECONDS_A_CELL,
    cell_done: Callable[[int, int], None] = lambda done, of: None,
) -> Notebook:
    """Runs every cell of a notebook in a new kernel, in the notebook's folder.

    A cell that raises an error does not stop the next ones; the first one is named. A cell that
    does not end within `seconds` does.

    Args:
        file: the notebook.
        seconds: time limit of a cell.
        cell_done: called with the number of cells done, and of all cells.
    Raises:
        LabkitError: the file is no notebook, or no kernel can be started.
    """
    notebook = read_notebook(file)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop("execution", None)
    client = _Client(
        notebook,
        kernel_name="python3",
        resources={"metadata": {"path": str(file.resolve().parent)}},
        timeout=seconds,
        allow_errors=True,
        record_timing=False,
        store_widget_state=False,
        extra_arguments=["--log-level=CRITICAL", *start_options()],
    )
    total = len(notebook.cells)
    started = 0

    def cell_started(cell: NotebookNode, cell_index: int) -> None:
        nonlocal started
        started = cell_index + 1

    client.on_cell_start = cell_started
    client.on_cell_complete = lambda cell, cell_index: cell_done(cell_index + 1, total)
    problem = None
    try:
        # The order of a set's strings is then the same in each execution.
        client.execute(env={**os.environ, "PYTHONHASHSEED": "0"})
    except CellTimeoutError:
        problem = f"cell {started} does not end within {seconds:g} seconds"
    except DeadKernelError:
        problem = f"the kernel died in cell {started}"
    except RuntimeError as error:
        reason = str(error).partition("\n")[0][:120]
        raise LabkitError(f"no kernel could be started: {reason}", file=file) from None
    _make_stable(notebook)
    notebook.metadata.pop("widgets", None)
    language = notebook.metadata.get("language_info", {})
    notebook.metadata["language_info"] = {"name": language.get("name", "python")}
    # A cell that is interrupted raises KeyboardInterrupt, which says less than the time limit.
    before = notebook.cells if problem is None else notebook.cells[: started - 1]
    return Notebook(file, notebook, _first_failure(before) or problem)


class _Client(NotebookClient):
    """Leaves out what is larger than `MOST_SHOWN`."""

    def process_message(self, msg: dict, cell: NotebookNode, cell_index: int) -> Any:
        """As NotebookClient, but not every letter of an enormous value."""
        if "data" in msg["content"]:
            data = msg["content"]["data"]
            if sum(len(str(value)) for value in data.values()) > MOST_SHOWN:
                words = f"[left out: more than {MOST_SHOWN:,} letters]"
                msg["content"]["data"] = {"text/plain": words}
        return super().process_message(msg, cell, cell_index)


def _make_stable(notebook: NotebookNode) -> None:
    """Takes out what differs from one execution to the next: names of widgets are numbered in the
    order in which they are shown; addresses in memory, and the number of the kernel's process in
    the names of cells, are left out."""
    names: dict[str, str] = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            _merge_streams(cell)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            view = data.get(WIDGET_VIEW)
            if isinstance(view, dict) and "model_id" in view:
                number = f"{len(names):032x}"
                view["model_id"] = names.setdefault(str(view["model_id"]), number)
            for place, name in ((output, "text"), (output, "evalue"), (data, "text/plain")):
                if isinstance(place.get(name), str):
                    place[name] = _stable(place[name])
            if "traceback" in output:
                output["traceback"] = [_stable(line) for line in output["traceback"]]


def _merge_streams(cell: NotebookNode) -> None:
    """One output for everything that a cell prints, and one for its warnings: in how many pieces
    and in which order they arrive is left to chance. nbclient's own way takes hours for a line of
    millions of letters."""
    streams: dict[str, NotebookNode] = {}
    kept, place = [], 0
    for output in cell.outputs:
        if output.output_type != "stream":
            kept.append(output)
        elif output.name in streams:
            streams[output.name].text += output.text
        else:
            place = place if streams else len(kept)
            streams[output.name] = output
    for output in streams.values():
        lines = output.text.replace("\r\n", "\n").split("\n")
        # A progress bar goes back to the line's start and writes over it.
        output.text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)
    kept[place:place] = [streams[name] for name in sorted(streams, reverse=True)]
    cell.outputs = kept


def _stable(text: str) -> str:
    text = re.sub(r"\bipykernel_\d+([/\\])\d+\.py", r"ipykernel\1cell.py", text)
    return re.sub(r"\b0x[0-9a-fA-F]{6,16}\b", "0x...", text)


def _first_failure(cells: Sequence[NotebookNode]) -> str | None:
    """The first cell with an error, in one line; counted from 1 as the reader counts."""
    for number, cell in enumerate(cells, start=1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                reason = " ".join(str(output.evalue).split())[:160]
                return f"cell {number} raises {output.ename}: {reason}"
    return None


# --------------------------------------------------------------------------- as a page


class _Page(HTMLExporter):
    """JupyterLab's look, without a script from the network; formulas become MathML."""

    def __init__(self, **options: Any) -> None:
        super().__init__(template_name="lab", embed_images=True, **options)
        self.exclude_input_prompt = False
        self.raw_template = _TEMPLATE
        self.formulas: list[tuple[str, str]] = []
        """kind ("InlineMath", "DisplayMath") and LaTeX, in the order of the marks in the page"""

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        """A cell's Markdown with marks in the places of its formulas."""
        cell = context.get("cell", {})
        renderer = _Renderer(
            self.formulas,
            escape=False,
            attachments=cell.get("attachments", {}),
            embed_images=True,
            path=context.get("resources", {}).get("metadata", {}).get("path", ""),
            anchor_link_text=self.anchor_link_text,
            exclude_anchor_links=self.exclude_anchor_links,
        )
        return MarkdownWithMath(renderer=renderer).render(source)


_TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
"""
_MARK = "labkit-formula-{}-"


class _Renderer(IPythonRenderer):
    """Puts a mark where a formula stands."""

    def __init__(self, formulas: list[tuple[str, str]], **options: Any) -> None:
        super().__init__(**options)
        self.formulas = formulas

    def _marked(self, kind: str, source: str) -> str:
        self.formulas.append((kind, source))
        return _MARK.format(len(self.formulas) - 1)

    def block_math(self, body: str) -> str:
        """A formula on a line of its own."""
        return self._marked("DisplayMath", body)

    def inline_math(self, body: str) -> str:
        """A formula within a line."""
        return self._marked("InlineMath", body)

    def latex_environment(self, name: str, body: str) -> str:
        """`\\begin{align} ...`, which is a formula without dollar signs."""
        inner = {"align": "aligned", "gather": "gathered"}.get(name.rstrip("*"))
        body = f"\\begin{{{inner}}}{body}\\end{{{inner}}}" if inner else body
        return self._marked("DisplayMath", body)


def to_page(notebook: NotebookNode, name: str, folder: Path) -> str:
    """A notebook as one HTML page with its outputs, which needs no other file and no network.

    Args:
        notebook: the executed notebook.
        name: the page's title.
        folder: where pictures that the Markdown names are found.
    """
    exporter = _Page()
    shown = NotebookNode(json.loads(json.dumps(notebook)))
    shown = nbformat.from_dict(shown)
    for cell in shown.cells:
        for output in cell.get("outputs", []):
            _mark_latex(output, exporter.formulas)
    resources = {"metadata": {"name": name, "path": str(folder)}}
    body, _ = exporter.from_notebook_node(shown, resources)
    for number, formula in enumerate(_as_mathml(exporter.formulas)):
        body = body.replace(_MARK.format(number), formula)
    return body


def _mark_latex(output: NotebookNode, formulas: list[tuple[str, str]]) -> None:
    """Replaces the LaTeX of an output, which only MathJax could show, by a mark."""
    data = output.get("data", {})
    if "text/latex" not in data or "text/html" in data:
        return
    source = data.pop("text/latex").strip()
    found = re.fullmatch(r"\$\$?(?:\\displaystyle)?(.*?)\$\$?", source, re.DOTALL)
    formulas.append(("DisplayMath", found[1] if found else source))
    data["text/html"] = _MARK.format(len(formulas) - 1)


def _as_mathml(formulas: list[tuple[str, str]]) -> list[str]:
    """Formulas as MathML, which browsers show themselves; by one call of pandoc. One that pandoc
    does not know stays LaTeX."""
    from labkit.course.report_pdf import in_pandoc

    if not formulas:
        return []
    blocks = [
        {
            "t": "Div",
            "c": [
                [f"labkit-formula-{number}", [], []],
                [{"t": "Plain", "c": [{"t": "Math", "c": [{"t": kind}, source]}]}],
            ],
        }
        for number, (kind, source) in enumerate(formulas)
    ]
    page, _ = in_pandoc(blocks, "html", "--mathml")
    parts = re.split(r'<div id="labkit-formula-\d+">\s*', page)[1:]
    shown = [re.sub(r"\s*</div>\s*$", "", part) for part in parts]
    if len(shown) != len(formulas):  # pragma: no cover
        return [f"<code>{html.escape(source)}</code>" for _, source in formulas]
    return shown
