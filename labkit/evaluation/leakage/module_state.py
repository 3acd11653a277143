"""Restores the modules that a predictor calls: buffers and training modes stay as they were.

In training mode batch norm updates its running statistics in every call. Without this, a trial that
puts NaN into future frames would leave NaN in the user's model.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

DEPTH = 4
"""how deep modules are searched in what a predictor holds: closures, attributes, containers"""


class ModuleStates:
    """The modules of a predictor, as far as they are known: those that it holds, and those that
    were seen in a call."""

    def __init__(self, predict: Any) -> None:
        """
        Args:
            predict: the predictor, whose closure, attributes and globals are searched.
        """
        self._known: dict[int, nn.Module] = {}
        for module in _held_modules(predict, DEPTH, set()):
            self._known |= {id(part): part for part in module.modules()}

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Restores buffers and modes at the end of the block, also of modules that are first seen
        within it: those are stored before their forward runs."""
        stored = {key: _State(module) for key, module in self._known.items()}

        def store(module: nn.Module, inputs: Any) -> None:
            for part in module.modules() if id(module) not in stored else ():
                stored.setdefault(id(part), _State(part))
                self._known[id(part)] = part

        handle = register_module_forward_pre_hook(store)
        try:
            yield
        finally:
            handle.remove()
            for state in stored.values():
                state.restore()


class _State:
    """A module's own buffers and mode, without those of its children."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.training = module, module.training
        self.buffers = dict(module._buffers)
        self.values = {name: _copy(buffer) for name, buffer in self.buffers.items()}

    def restore(self) -> None:
        self.module.training = self.training
        for name, buffer in self.buffers.items():
            self.module._buffers[name] = buffer
            value = self.values[name]
            if buffer is None or value is None or _equal(buffer, value):
                continue
            with torch.inference_mode(buffer.is_inference()), torch.no_grad():
                buffer.copy_(value)


def _copy(buffer: Tensor | None) -> Tensor | None:
    return None if buffer is None else buffer.detach().clone()


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def _held_modules(thing: Any, depth: int, seen: set[int]) -> Iterator[nn.Module]:
    """The modules in a callable's closure, attributes, bound object and globals."""
    if depth < 0 or id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, nn.Module):
        yield thing
        return
    for part in _parts(thing):
        yield from _held_modules(part, depth - 1, seen)


def _parts(thing: Any) -> Iterator[Any]:
    if isinstance(thing, (list, tuple, set, frozenset)):
        yield from thing
    elif isinstance(thing, dict):
        yield from thing.values()
    elif isinstance(thing, functools.partial):
        yield from (thing.func, *thing.args, *thing.keywords.values())
    elif isinstance(thing, (str, bytes, int, float, bool, type(None), Tensor, type)):
        return
    elif (code := getattr(thing, "__code__", None)) is not None:  # a function or bound method
        yield getattr(thing, "__self__", None)
        yield from getattr(thing, "__defaults__", None) or ()
        for cell in getattr(thing, "__closure__", None) or ():
            with contextlib.suppress(ValueError):  # not filled yet
                yield cell.cell_contents
        names = getattr(thing, "__globals__", {})
        yield from (names[name] for name in code.co_names if name in names)
    elif hasattr(thing, "__dict__") and not hasattr(thing, "__path__"):  # no package's contents
        yield from vars(thing).values()
        yield vars(type(thing)).get("__call__")
