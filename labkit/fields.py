"""Dataclass fields that check themselves: type, choices and range, from their annotations."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from labkit.errors import ConfigError


@dataclass(frozen=True)
class Between:
    """The allowed range of a number, both ends included, written in a field's annotation."""

    low: float
    high: float

    def __str__(self) -> str:
        whole = float(self.low).is_integer() and float(self.high).is_integer()
        low, high = (int(end) if whole else f"{end:g}" for end in (self.low, self.high))
        return f"{low}..{high}"


class Checked:
    """Checks each field against its annotation as soon as the config is made."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self), include_extras=True)
        for item in dataclasses.fields(self):  # type: ignore[arg-type]
            _check_field(type(self).__name__, item.name, getattr(self, item.name), hints[item.name])


def _check_field(owner: str, name: str, value: Any, hint: Any) -> None:
    """Raises ConfigError unless `value` is of the annotated type and within its range."""
    limits = None
    if typing.get_origin(hint) is Annotated:
        hint, *extras = typing.get_args(hint)
        limits = next((extra for extra in extras if isinstance(extra, Between)), None)
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            allowed = ", ".join(map(str, choices))
            raise ConfigError(f"{owner}.{name} is {value!r}; allowed: {allowed}")
        return
    fits = (
        isinstance(value, (int, float)) and not isinstance(value, bool)
        if hint is float
        else isinstance(value, hint) and not (hint is int and isinstance(value, bool))
    )
    if not fits:
        raise ConfigError(f"{owner}.{name} is {value!r}; it must be a {hint.__name__}")
    outside = limits is not None and not limits.low <= value <= limits.high
    if outside or (hint is float and not math.isfinite(value)):
        allowed = limits if limits is not None else "any finite number"
        raise ConfigError(f"{owner}.{name} is {value}; allowed: {allowed}")


def build(kind: type, values: Any, where: str) -> Any:
    """A tree of `Checked` dataclasses from nested dictionaries; `where` names it in errors.

    Raises:
        ConfigError: an unknown field (with the nearest known one) or a value out of range.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where} must be a table of fields, not {type(values).__name__}")
    hints = typing.get_type_hints(kind)
    for name in values:
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(hints)}"
            raise ConfigError(f"unknown field {where}.{name}", hint=hint)
    return kind(
        **{
            name: build(hints[name], value, f"{where}.{name}")
            if dataclasses.is_dataclass(hints[name])
            else value
            for name, value in values.items()
        }
    )


def differences(old: dict[str, Any], new: dict[str, Any], where: str = "") -> list[str]:
    """The fields in which two configs, as nested dictionaries, differ: "name: old -> new"."""
    found = []
    for name in [*old, *(name for name in new if name not in old)]:
        a, b = old.get(name, "nothing"), new.get(name, "nothing")
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{where}{name}.")
        elif a != b:
            found.append(f"{where}{name}: {a} -> {b}")
    return found


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one with dotted names: {"kl": {"beta": 1}} is {"kl.beta": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
