"""From words to a command, by tyro; and from tyro's boxes to one line a mistake."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import tyro
from tyro.conf import FlagCreatePairsOff

from labkit.errors import LabkitError

CommandT = TypeVar("CommandT")

Flag = FlagCreatePairsOff[bool]
"""an option without a value: --resume, or --no-progress where the default is True"""


@dataclasses.dataclass(frozen=True)
class Group:
    """Commands under one name, and a sentence on what they have in common."""

    about: str
    commands: Mapping[str, type | Group]


def find(group: Group, words: Sequence[str]) -> tuple[str, type, list[str]]:
    """The command that the first words name.

    Returns:
        its name as typed (`labkit data pack`), its class, and the words left.

    Raises:
        LabkitError: there is no such command; the message names the nearest.
        SystemExit: the words ask for help on a group, which is printed.
    """
    program, rest = "labkit", list(words)
    while True:
        if rest and rest[0] in ("-h", "--help"):
            _print_help(program, group)
        if not rest or rest[0] not in group.commands:
            raise LabkitError(_no_command(program, group, rest), hint=f"{program} --help")
        program = f"{program} {rest[0]}"
        chosen = group.commands[rest.pop(0)]
        if not isinstance(chosen, Group):
            return program, chosen, rest
        group = chosen


def read(
    program: str, kind: type[CommandT], words: Sequence[str], defaults: CommandT | None = None
) -> CommandT:
    """The command's options as an instance of `kind`.

    Args:
        program: the command's name, for messages.
        kind: the command's dataclass.
        words: what was typed after the name.
        defaults: what options left out are taken from; the fields' own if None.

    Raises:
        LabkitError: an option is unknown (with the nearest) or a value does not fit.
        SystemExit: the words ask for help, which is printed.
    """
    hint = f"{program} --help lists all"
    known = sorted(_options(kind))
    for word in words:
        option = word.split("=")[0].replace("_", "-")
        if word.startswith("--") and option not in known:
            near = _nearest(option, known)
            hint = f"; did you mean {near}?" if near else ""
            raise LabkitError(f"unrecognized option {word.split('=')[0]}{hint}", hint=hint)
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(
                kind,
                prog=program,
                args=list(words),
                **({} if defaults is None else {"default": defaults}),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise LabkitError(_unbox(box.getvalue(), program), hint=hint) from None


def _print_help(program: str, group: Group) -> None:
    """Prints what commands the group has; tyro ends it with SystemExit."""
    listed = tuple(
        Annotated[
            _Nothing,
            tyro.conf.subcommand(
                name,
                description=c.about if isinstance(c, Group) else (c.__doc__ or "").split("\n")[0],
            ),
        ]
        for name, c in group.commands.items()
    )
    about = f"{group.about}\n\n{program} COMMAND --help says more of each."
    tyro.cli(typing.Union[listed], prog=program, description=about, args=["--help"])  # noqa: UP007


@dataclasses.dataclass
class _Nothing:
    """Stands for a command where only its name and description matter."""


def _no_command(program: str, group: Group, rest: Sequence[str]) -> str:
    names = ", ".join(group.commands)
    if not rest:
        return f"name a command: {names}"
    near = difflib.get_close_matches(rest[0], group.commands, n=1)
    hint = f"did you mean {program} {near[0]}?" if near else f"there are: {names}"
    return f"no command {rest[0]!r}; {hint}"


def _options(kind: Any, prefix: str = "") -> Iterator[str]:
    """Every option of a dataclass, as typed: --out, --no-progress, --training.epochs, ..."""
    if not prefix:
        yield "--help"
    hints = typing.get_type_hints(kind, include_extras=True)
    for item in dataclasses.fields(kind):
        hint = hints[item.name]
        bare, *marks = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
        if tyro.conf.Positional in marks:
            continue
        name = item.name.replace("_", "-")
        if dataclasses.is_dataclass(bare):
            # `Train.config` alone has no name of its own on the command line.
            yield from _options(bare, prefix if bare is not hint else f"{prefix}{name}.")
        else:
            yield f"--{prefix}{name}"
            if bare is bool:
                yield f"--{prefix}no-{name}"


def _nearest(option: str, known: Sequence[str]) -> str | None:
    """The known option nearest to one typed, whole or without the part before the dot."""
    near = difflib.get_close_matches(option, known, n=1, cutoff=0.8)
    if near:
        return near[0]
    by_last = {f"--{name.lstrip('-').rpartition('.')[2]}": name for name in known}
    typed = f"--{option.lstrip('-').rpartition('.')[2]}"
    near = difflib.get_close_matches(typed, by_last, n=1)
    return by_last[near[0]] if near else None


def _unbox(text: str, program: str) -> str:
    """What a box of tyro's says above its first rule, as one line."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    said: list[str] = []
    for line in text.splitlines()[1:]:
        inner = line.strip("│| ")
        if not re.fullmatch(r"[─-]+", inner):
            said.append(inner)
        elif said:  # without UTF-8 a rule stands below the title too
            break
    line = " ".join(" ".join(said).split())
    line = line.replace(f"Missing from {program}:", "missing:")
    return line[:1].lower() + line[1:].rstrip(".") if line else "not understood"
