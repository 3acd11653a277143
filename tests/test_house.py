"""The plan of the house: which part may import which."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import labkit

PACKAGE = Path(labkit.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

GROUND = {"cores", "errors", "frames", "fields", "files", "course_names", "config"}
BELOW: dict[str, set[str]] = {
    "cores": set(),
    "errors": set(),
    "files": {"errors"},
    "frames": {"errors"},
    "fields": {"errors"},
    "course_names": {"errors"},
    "config": {"errors", "fields", "files", "course_names"},
    "presets": {"errors", "config"},
    "data": GROUND,
    "model": GROUND,
    "evaluation": GROUND | {"data", "model"},
    "training": GROUND | {"data", "model", "evaluation"},
    "views": GROUND,
    "reference": GROUND | {"data", "model", "training"},
    "reporting": GROUND | {"data", "model", "evaluation", "training", "views"},
    "experiments": GROUND
    | {"data", "model", "evaluation", "training", "views", "presets", "reporting"},
}
"""What each part may import. `data` and `model` do not import each other; `views` takes arrays and
imports no model; `reference` stands on training; parts that are not listed (cli, course, demo,
doctor) stand on top of all."""


def imports_of(file: Path) -> Iterator[str]:
    """The parts of labkit that a file imports, anywhere in it: `labkit.data.pack` is `data`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import; the house writes labkit.x"
            names = [node.module or ""]
            if node.module == "labkit":
                names = [f"labkit.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("labkit."))


def part_of(file: Path) -> str:
    """The part of labkit that a file belongs to."""
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("part", BELOW)
def test_a_part_imports_only_what_is_below_it(part: str) -> None:
    files = [file for file in FILES if part_of(file) == part]
    assert files, f"labkit.{part} is gone: mend the plan above"
    allowed = BELOW[part] | {part}
    for file in files:
        wrong = set(imports_of(file)) - allowed
        assert not wrong, f"{file.relative_to(PACKAGE)} imports {', '.join(sorted(wrong))}"


def test_nothing_below_imports_what_stands_on_top() -> None:
    top = {part_of(file) for file in FILES} - set(BELOW) - {"__init__", "__main__"}
    assert {"cli", "course", "demo", "doctor"} <= top
    assert not top & set().union(*BELOW.values())


def module_name(file: Path) -> str:
    """Its name in an import: `labkit.data.pack` for labkit/data/pack/__init__.py."""
    parts = ("labkit", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in FILES}


def imported_modules(file: Path) -> set[str]:
    """The modules of labkit that a file imports: at its top, within functions, and where only a
    type checker imports them."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            within = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (within & set(MODULES)) or {str(node.module)}
    return found & set(MODULES)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: imported_modules(file) - {name} for name, file in MODULES.items()}
    assert "labkit.training.latent_use" in graph["labkit.training.events"]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def private_names(tree: ast.AST) -> set[str]:
    """The private functions, classes, variables and attributes that a file defines."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def used_names(tree: ast.AST) -> set[str]:
    """The attributes that a file reads, and the names that it imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.name for alias in node.names}
    return names


def test_no_file_uses_what_is_private_in_another() -> None:
    trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in FILES}
    private = {file: private_names(tree) for file, tree in trees.items()}
    for file, tree in trees.items():
        elsewhere = set().union(*(names for other, names in private.items() if other != file))
        wrong = (used_names(tree) & elsewhere) - private[file]
        assert not wrong, f"{file.relative_to(PACKAGE)} uses {', '.join(sorted(wrong))}"


def test_no_file_is_called_utils() -> None:
    for file in FILES:
        assert file.stem not in ("utils", "helpers", "misc", "common"), file


def public_things() -> Iterator[tuple[str, object]]:
    """Every public function, class and method that labkit itself defines."""
    names = [info.name for info in pkgutil.walk_packages([str(PACKAGE)], "labkit.")]
    for former in ("labkit.learning", "labkit.model.compat"):  # to import one warns
        names.remove(former)
    for name in names:
        if name.endswith("__main__"):
            continue
        module = importlib.import_module(name)
        for key, thing in vars(module).items():
            if key.startswith("_") or getattr(thing, "__module__", None) != name:
                continue
            if inspect.isfunction(thing) or inspect.isclass(thing):
                yield f"{name}.{key}", thing


def test_everything_public_has_a_docstring() -> None:
    bare = [
        name
        for name, thing in public_things()
        # A dataclass without one is given its signature.
        if not (thing.__doc__ or "").strip() or thing.__doc__.startswith(f"{thing.__name__}(")
    ]
    assert not bare


def test_every_module_says_what_it_is_for() -> None:
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        assert not text.strip() or ast.get_docstring(ast.parse(text)), file
