"""The plan of the house: which part may import which."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
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
}
"""What each part may import. `data` and `model` do not know each other; `views` takes arrays
and knows no model; what is not listed (cli, demo, reporting, ...) stands on top of all."""


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
    assert {"cli", "demo", "reporting"} <= top
    assert not top & set().union(*BELOW.values())


def test_no_file_is_called_utils() -> None:
    for file in FILES:
        assert file.stem not in ("utils", "helpers", "misc", "common"), file


def public_things() -> Iterator[tuple[str, object]]:
    """Every public function, class and method that labkit itself defines."""
    names = [info.name for info in pkgutil.walk_packages([str(PACKAGE)], "labkit.")]
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
