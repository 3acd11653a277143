"""From the words of a command line to a command object, by tyro. A mistake raises LabkitError."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import re
import shutil
import sys
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import docstring_parser
import tyro
from tyro.conf import FlagCreatePairsOff, arg
from tyro.constructors import (
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from labkit.errors import LabkitError

try:
    from tyro._errors import on_parse_error
except ImportError:  # another version of tyro: it prints its own message and exits with 2
    on_parse_error = contextlib.nullcontext

CommandT = TypeVar("CommandT")

Flag = Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")]
"""an option without a value: --resume, or --no-progress where the default is True"""

_HELP = ConstructorRegistry()
"""tyro's rules, with the one for dataclasses below"""


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
            meant = f"; did you mean {near}?" if near else ""
            raise LabkitError(f"unrecognized option {word.split('=')[0]}{meant}", hint=hint)

    def refuse(failure: Any) -> None:
        raise LabkitError(_what_failed(failure), hint=hint)

    given = {} if defaults is None else {"default": defaults}
    with on_parse_error(refuse), _wrapped_help():
        return tyro.cli(kind, prog=program, args=list(words), registry=_HELP, **given)


def _what_failed(failure: Any) -> str:
    """One clause for one of tyro's parse errors (the classes of `tyro._errors`)."""
    if missing := getattr(failure, "missing_arguments", None):
        return f"missing: {', '.join(_typed(each.arg) for each in missing)}"
    if tokens := getattr(failure, "tokens", None):
        return f"too many words: {' '.join(tokens)}"
    argument, message = getattr(failure, "argument", None), getattr(failure, "message", None)
    if argument is None:
        return message or "the options do not fit together"
    name = _typed(argument)
    if hasattr(failure, "choices"):
        # Where an option may be left out, "None" is one of them, and their order is random.
        allowed = [each for each in failure.choices if each != "None"]
        if len(allowed) < len(failure.choices):
            allowed.sort()
        return f"{name} is {failure.value!r}; allowed: {', '.join(allowed)}"
    if message is None:
        return f"{name} needs a value"
    for start, wanted in _WANTED.items():
        if start in message:
            return (
                f"{name} is {message[message.index(start) :].split(': ')[1]}; it must be {wanted}"
            )
    return f"{name}: {message}"


_WANTED = {"invalid literal for int()": "a whole number", "could not convert": "a number"}
"""Python's words for a value of the wrong type, and ours."""


def _typed(argument: Any) -> str:
    """An argument as a user types it: --out, or RUN for a word without an option."""
    return argument.lowered.metavar if argument.is_positional() else argument.display_name()


@_HELP.struct_rule
def _with_help(info: StructTypeInfo) -> StructConstructorSpec | None:
    """A dataclass whose help texts are the texts under its fields, without their line breaks.

    tyro's own rule keeps the line breaks of the source. The defaults None and () are not shown, and
    None is not among the choices: the text says what happens when the option is left out.
    """
    kind = info.type
    if not dataclasses.is_dataclass(kind):
        return None
    texts = {
        each.arg_name: each.description for each in docstring_parser.parse_from_object(kind).params
    }
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = []
    for item in dataclasses.fields(kind):
        default = tyro.MISSING_NONPROP if item.default is dataclasses.MISSING else item.default
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        default = getattr(info.default, item.name, default)
        hint = hints[item.name]
        if default is None or default == ():
            hint = Annotated[hint, arg(help_behavior_hint="", metavar=_choices(hint))]
        text = " ".join((texts.get(item.name) or "").split())
        fields.append(StructFieldSpec(item.name, hint, default, text or None))
    return StructConstructorSpec(kind, tuple(fields))


def _choices(hint: Any) -> str | None:
    """What `Literal["a", "b"] | None` offers: {a,b}. None for any other type."""
    if not isinstance(hint, types.UnionType) and typing.get_origin(hint) is not typing.Union:
        return None
    offered = [each for each in typing.get_args(hint) if each is not types.NoneType]
    if len(offered) != 1 or typing.get_origin(offered[0]) is not typing.Literal:
        return None
    return "{" + ",".join(map(str, typing.get_args(offered[0]))) + "}"


@contextlib.contextmanager
def _wrapped_help(**shorter: str) -> Iterator[None]:
    """Breaks every line of tyro's help at the width of the terminal: tyro does so in boxes only.

    Args:
        shorter: words that stand for a longer text.
    """
    console = sys.stdout
    held = _Held(console)
    try:
        with contextlib.redirect_stdout(held):
            yield
    finally:
        width = shutil.get_terminal_size().columns
        for line in held.getvalue().splitlines():
            for short, text in shorter.items():
                line = line.replace(text, short)
            if len(re.sub(r"\x1b\[[0-9;]*m", "", line)) > width:
                line = textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
            print(line)


class _Held(io.StringIO):
    """Holds what is printed for a console; tyro asks whether it has colours and box characters."""

    def __init__(self, console: typing.TextIO | None) -> None:
        super().__init__()
        self._console = console

    @property
    def encoding(self) -> str | None:  # type: ignore[override]
        return getattr(self._console, "encoding", None)

    def isatty(self) -> bool:
        return self._console is not None and self._console.isatty()


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
    with _wrapped_help(COMMAND="{" + ",".join(group.commands) + "}"):
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
        own = (mark.name for mark in marks if getattr(mark, "name", None))
        name = next(own, item.name.replace("_", "-"))
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
