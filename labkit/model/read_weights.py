"""Reads the weights that other programs saved with `torch.save`, without running their pickles.

The public implementations save a dictionary with the parts `encoder`, `decoder`,
`frame_predictor`, `posterior` and, where it is learned, `prior`; beside them an optimizer, options
or an epoch. A part is a state dict, or a whole module. Only state dicts are read: to open a module
runs code from the file, and needs the classes that it was made from.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import warnings
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from labkit.errors import RunError

PART_NAMES = ("encoder", "decoder", "frame_predictor", "posterior", "prior")
"""The parts that are read; what else a file holds is left."""

_WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that DataParallel and torch.compile put before every name."""
_OPTIONS = ("args", "opt", "opts", "options", "config", "hparams")


@dataclass(frozen=True)
class Checkpoint:
    """The known parts of a file."""

    parts: dict[str, dict[str, Tensor]]
    """the state dict of each part, by the names of `PART_NAMES`"""
    options: dict[str, Any] = field(default_factory=dict)
    """the options of the program that saved it, where the file holds them"""
    ignored: tuple[str, ...] = ()
    """names of what else was in the file"""


def read_checkpoint(file: Path | str) -> Checkpoint:
    """Reads the parts of a model from a file of `torch.save`, or of safetensors.

    Raises:
        RunError: there is no such file; it is of the lab itself, or damaged; it holds whole
            modules or other pickled objects (the hint converts it); it has none of the parts; a
            part holds something else than tensors, or values that are not finite.
    """
    file = Path(file)
    _refuse_own(file)
    if not file.is_file():
        what = "is not a regular file" if file.exists() else "no such file"
        raise RunError(what, file=file)
    saved = _opened(file)
    parts, rest = _parts_of(saved)
    if not parts:
        found = f"it has {_listed(saved)}" if isinstance(saved, Mapping) else type(saved).__name__
        raise RunError(
            f"is no table of state dicts: {found}",
            file=file,
            hint=f"expected the parts {', '.join(PART_NAMES[:4])} and, where it is learned, prior",
        )
    checked = {name: _checked(name, part, file) for name, part in parts.items()}
    options = next((rest[name] for name in _OPTIONS if name in rest), {})
    options = vars(options) if isinstance(options, argparse.Namespace) else options
    return Checkpoint(checked, dict(options) if isinstance(options, Mapping) else {}, (*rest,))


def _refuse_own(file: Path) -> None:
    """Raises RunError for a run of the lab itself, or for its weights: they need no import."""
    run = file if file.is_dir() else file.parent
    try:
        settings = json.loads((run / "config.json").read_text(encoding="utf-8"))
        is_run = isinstance(settings, dict) and {"data", "model", "training"} <= set(settings)
    except (OSError, ValueError):
        is_run = False
    if file.is_dir():
        own = is_run
    elif file.suffix == ".safetensors":
        own = _is_of_the_lab(file)
    else:
        own = is_run and file.name == "checkpoint.pt"
    if not own:
        return
    folder = shlex.quote(run.as_posix())
    hint = (
        f"use it as it is: labkit evaluate {folder}, or train on with its weights: labkit train "
        f"--init-from {folder} --out NEW"
    )
    if not is_run:
        hint = (
            "they belong into the folder of their run, beside its config.json; labkit evaluate "
            "takes that folder"
        )
    what = "is a run of labkit" if file.is_dir() else "holds the weights of a run of labkit"
    raise RunError(f"{what}: it needs no import", file=file, hint=hint)


def _is_of_the_lab(file: Path) -> bool:
    """Whether a file of safetensors has the settings that the lab writes into one."""
    try:
        with safe_open(file, "pt") as opened:
            shape = json.loads((opened.metadata() or {})["shape"])
        return isinstance(shape, dict) and "model" in shape
    except Exception:  # it is missing or damaged: reading it says so
        return False


def without_wrappers(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict with the names of the module itself, where DataParallel or torch.compile put a
    prefix before every one of them."""
    state = dict(state)
    for _ in _WRAPPERS:
        for prefix in _WRAPPERS:
            if state and all(name.startswith(prefix) for name in state):
                state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _opened(file: Path) -> Any:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with torch.serialization.safe_globals(_plain_types()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise nearly anything in pickle and torch
        foreign = _foreign_types(file)
        if not foreign:
            kind = type(error).__name__
            what = f"is damaged, or was not written by torch.save ({kind})"
            raise RunError(what, file=file) from None
    raise RunError(
        f"holds more than tensors: {', '.join(foreign[:3])}{', ...' if len(foreign) > 3 else ''}. "
        "It is not opened, because that can run any code that the file brings",
        file=file,
        hint=f"if you trust it, convert it in the folder of the program that saved it: "
        f"{conversion(file)}",
    )


def conversion(file: Path) -> str:
    """Two lines for a shell that save the state dicts of a file of whole modules."""
    parts = ", ".join(repr(name) for name in PART_NAMES)
    there, new = str(file.resolve()), str(file.resolve().with_name(f"{file.stem}-states.pth"))
    code = (
        f"import torch; saved = torch.load({there!r}, map_location='cpu', weights_only=False);\n"
        "torch.save({name: part.state_dict() if hasattr(part, 'state_dict') else part "
        f"for name, part in saved.items() if name in ({parts})}}, {new!r})"
    )
    return f"python -c {shlex.quote(code)}"


def _plain_types() -> list[Any]:
    """Types beside tensors that hold values alone: options, and figures of NumPy's."""
    core = np._core.multiarray  # type: ignore[attr-defined]
    kinds = [each for each in vars(np.dtypes).values() if isinstance(each, type)]
    return [
        argparse.Namespace,
        defaultdict,
        list,
        dict,
        np.ndarray,
        np.dtype,
        core.scalar,
        core._reconstruct,
        # As NumPy 1 names them:
        (core.scalar, "numpy.core.multiarray.scalar"),
        (core._reconstruct, "numpy.core.multiarray._reconstruct"),
        *kinds,
    ]


def _foreign_types(file: Path) -> list[str]:
    """Names of the types in the file that are not read."""
    known = {"argparse.Namespace", "collections.defaultdict", "builtins.list", "builtins.dict"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = torch.serialization.get_unsafe_globals_in_checkpoint(file)
        except Exception:
            # The format before torch 1.6 cannot be listed, but the refusal names the first type.
            found = []
            with torch.serialization.safe_globals(_plain_types()):
                try:
                    torch.load(file, map_location="cpu", weights_only=True)
                except Exception as error:
                    found = re.findall(r"(?:GLOBAL|to load) ([\w.]+)", str(error))
    return sorted({n for n in found if n not in known and not n.startswith("numpy")})


def _parts_of(saved: Any, depth: int = 2) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parts in a dictionary, or in one inside of it, or by the prefixes of its names; and what
    else is there."""
    if not isinstance(saved, Mapping):
        return {}, {}
    names = {name: value for name, value in saved.items() if isinstance(name, str)}
    parts = {name: value for name, value in names.items() if name in PART_NAMES}
    rest = {name: value for name, value in names.items() if name not in PART_NAMES}
    if parts:
        return parts, rest
    flat = without_wrappers(names)
    split: dict[str, Any] = {}
    for name, value in flat.items():
        part, dot, inner = name.partition(".")
        if dot and part in PART_NAMES:
            split.setdefault(part, {})[inner] = value
    if split:
        return split, {n: v for n, v in flat.items() if n.partition(".")[0] not in PART_NAMES}
    for name, value in rest.items():
        parts, inner_rest = _parts_of(value, depth - 1) if depth else ({}, {})
        if parts:
            return parts, {n: v for n, v in rest.items() if n != name} | inner_rest
    return {}, rest


def _checked(part: str, state: Any, file: Path) -> dict[str, Tensor]:
    """The part's tensors under the names of the module itself.

    Raises:
        RunError: something in it is no tensor, or is not finite.
    """
    if not isinstance(state, Mapping) or not state:
        what = "is empty" if isinstance(state, Mapping) else f"is {type(state).__name__}"
        raise RunError(f"{part} {what}; expected a state dict", file=file)
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            raise RunError(
                f"{part}.{name} is a NumPy array; expected a tensor",
                file=file,
                hint="save the module's state_dict() by torch.save, or convert each array by "
                "torch.from_numpy",
            )
        if not isinstance(value, Tensor):
            raise RunError(f"{part}.{name} is {type(value).__name__}; expected a tensor", file=file)
        if value.layout != torch.strided or value.is_quantized:
            raise RunError(f"{part}.{name} is sparse or quantized; expected dense", file=file)
        bad = int((~value.isfinite()).sum()) if value.is_floating_point() else 0
        if bad:
            share = "all its" if bad == value.numel() else f"{bad} of its {value.numel()}"
            raise RunError(
                f"{part}.{name}: {share} values are NaN or infinite",
                file=file,
                hint="the training that saved it had diverged; take an earlier checkpoint",
            )
    return without_wrappers({str(name): value for name, value in state.items()})


def _listed(saved: Mapping[Any, Any]) -> str:
    names = [str(name)[:40] for name in saved]
    return f"{', '.join(names[:6])}{', ...' if len(names) > 6 else ''}" if names else "nothing"
