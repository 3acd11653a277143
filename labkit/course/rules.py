"""The course's rules: sections of the report, points, PSNR grades, names. The default rules are in
course.toml beside this file. `docs/course.md` says how to change them."""

from __future__ import annotations

import difflib
import itertools
import math
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from labkit.errors import ConfigError, LabkitError
from labkit.files import reading

if TYPE_CHECKING:
    from labkit.evaluation.protocol import Protocol

DEFAULT = Path(__file__).with_name("course.toml")
LANGUAGES = ("en", "zh-TW")
NEEDS = ("text", "derivation", "gif", "strip", "curves", "two_schedules", "certificate")
"""What a part of the report or the demo can ask for, and `labkit submit` looks for."""
LONGEST_NAME = 80
"""of a student's name, in characters"""


@dataclass(frozen=True)
class Text:
    """A text in the course's languages."""

    forms: Mapping[str, str]
    """by language; en is always there"""

    def in_(self, language: str) -> str:
        """The text in that language, in English where it has no such form."""
        return self.forms.get(language, self.forms["en"])

    def __str__(self) -> str:
        return self.forms["en"]


@dataclass(frozen=True)
class Part:
    """What gets points together."""

    key: str
    """a short name that stays the same in all languages; no other part has it"""
    title: Text
    points: float
    questions: tuple[Text, ...] = ()
    needs: tuple[str, ...] = ()
    """of NEEDS"""


@dataclass(frozen=True)
class Section:
    """A section of the report. One without parts in course.toml has itself as its only part."""

    key: str
    title: Text
    parts: tuple[Part, ...]

    @property
    def points(self) -> float:
        """Sum of its parts."""
        return sum(part.points for part in self.parts)


@dataclass(frozen=True)
class Rules:
    """The course's rules, checked."""

    title: Text
    file_name: str
    """of a submission, with {student_id} and {name}"""
    student_id: str
    """regular expression of a student id"""
    protocol: str
    """name of the protocol in which the PSNR is measured"""
    grades: tuple[tuple[float, float], ...]
    """(PSNR in dB, per cent of the points of the demo's part psnr), best first"""
    report: tuple[Section, ...]
    demo: tuple[Part, ...]
    extras: tuple[Part, ...]
    """on top of the total"""
    exercise_points: Mapping[str, float]
    """points in place of the notebook's, by the grade_id of the check cell"""

    @classmethod
    def load(cls, file: Path | str | None = None) -> Rules:
        """The rules of a file; those of the coursework for None.

        Raises:
            ConfigError: the file cannot be read, is no TOML, or a value does not fit. The message
                names the file and the value, such as report[3].points.
        """
        file = DEFAULT if file is None else Path(file)
        hint = "copy labkit/course/course.toml and edit the copy"
        with reading(file, "cannot be read", error=ConfigError, hint=hint):
            text = file.read_bytes().decode("utf-8-sig")
        try:
            table = tomllib.loads(text.replace("\r\n", "\n"))
        except tomllib.TOMLDecodeError as error:
            found = re.fullmatch(r"(.*) \(at line (\d+), column \d+\)", str(error))
            what, row = (found[1], int(found[2])) if found else (str(error), None)
            raise ConfigError(f"no valid TOML: {what}", file=file, row=row) from None
        except RecursionError:
            raise ConfigError("no valid TOML: nested too deeply", file=file) from None
        return _Reader(file).rules(table)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every part: of the report, the demo and the extras."""
        of_report = tuple(part for section in self.report for part in section.parts)
        return of_report + self.demo + self.extras

    @property
    def total(self) -> float:
        """Points of the report and the demo together."""
        return sum(section.points for section in self.report) + sum(p.points for p in self.demo)

    def part(self, key: str) -> Part:
        """
        Raises:
            KeyError: there is no such part.
        """
        return {part.key: part for part in self.parts}[key]

    def psnr_share(self, psnr: float) -> float:
        """Per cent of the demo's PSNR points for a PSNR in dB. It is not rounded: 24.99 dB is below
        25. NaN gives 0."""
        return next((share for bound, share in self.grades if psnr >= bound), 0)

    def zip_name(self, student_id: str, name: str) -> str:
        """The file name of a student's submission. Spaces in the name become underscores.

        Raises:
            LabkitError: the id has not the course's form, or the name cannot be part of a file
                name.
        """
        name = checked_name(name)
        if not re.fullmatch(self.student_id, student_id):
            hint = f"the course's form is {self.student_id}"
            raise LabkitError(f"the student id is {student_id!r}", hint=hint)
        return self.file_name.format(student_id=student_id, name=name.replace(" ", "_"))


def course_protocol(rules: Rules) -> Protocol:
    """The protocol in which the course measures the PSNR."""
    from labkit.evaluation.protocol import find_protocol  # slow: it imports torch

    return find_protocol(rules.protocol)


def checked_name(name: str) -> str:
    """A student's name in Unicode's NFC form, with single spaces.

    Raises:
        LabkitError: it is empty, longer than LONGEST_NAME, or has a character that a file name
            cannot have on every system.
    """
    name = " ".join(unicodedata.normalize("NFC", name).split())
    if not name:
        raise LabkitError("the name is empty", hint='give it as in --name "Ming Wang"')
    if len(name) > LONGEST_NAME or len(name.encode("utf-8", "replace")) > 150:
        raise LabkitError(f"the name has {len(name)} characters", hint="give a shorter form")
    wrong = next((c for c in name if c in '\\/:*?"<>|' or unicodedata.category(c)[0] == "C"), None)
    if wrong is not None or name.startswith(".") or name.endswith("."):
        which = "." if wrong is None else wrong
        hint = "a file name cannot have it there; leave it out"
        raise LabkitError(f"the name {name!r} has the character {which!r}", hint=hint)
    return name


class _Reader:
    """Reads a table of TOML into Rules. Each method takes the place of its value for messages."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.keys: dict[str, str] = {}

    def fail(self, place: str, what: str, hint: str | None = None) -> ConfigError:
        return ConfigError(f"{place} {what}".strip(), file=self.file, hint=hint)

    def rules(self, table: Mapping[str, Any]) -> Rules:
        sections = ("title", "total", "submission", "grading", "exercises", "report", "demo")
        self.only(table, "", (*sections, "extras"), optional=("exercises", "extras"))
        submission = self.table(table["submission"], "submission", ("file_name", "student_id"))
        grading = self.table(table["grading"], "grading", ("protocol", "psnr"))
        report = [
            self.section(each, f"report[{number}]")
            for number, each in enumerate(self.list(table["report"], "report"), start=1)
        ]
        demo = self.parts(table["demo"], "demo")
        rules = Rules(
            title=self.text(table["title"], "title"),
            file_name=self.file_name(submission["file_name"]),
            student_id=self.pattern(submission["student_id"], "submission.student_id"),
            protocol=self.protocol(grading["protocol"]),
            grades=self.grades(grading["psnr"]),
            report=tuple(report),
            demo=demo,
            extras=self.parts(table.get("extras", []), "extras"),
            exercise_points=self.exercises(table.get("exercises", {})),
        )
        total = self.points(table["total"], "total")
        if not math.isclose(rules.total, total):
            hint = f"change the points, or write total = {rules.total:g}"
            what = f"is {total:g}, but report and demo have {rules.total:g} points together"
            raise self.fail("total", what, hint)
        return rules

    def table(
        self, value: Any, place: str, names: tuple[str, ...], optional: tuple[str, ...] = ()
    ) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self.fail(place, f"is {_kind(value)}; it must be a table")
        self.only(value, place, names, optional)
        return value

    def only(
        self,
        table: Mapping[str, Any],
        place: str,
        names: tuple[str, ...],
        optional: tuple[str, ...] = (),
    ) -> None:
        before = f"{place}." if place else ""
        for name in table:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"
                raise self.fail(before + name, "is no rule of the course", hint)
        for name in names:
            if name not in table and name not in optional:
                raise self.fail(before + name, "is missing", "labkit/course/course.toml has it")

    def list(self, value: Any, place: str) -> list[Any]:
        if not isinstance(value, list):
            raise self.fail(place, f"is {_kind(value)}; it must be a list")
        return value

    def string(self, value: Any, place: str) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self.fail(place, f"is {_kind(value)}; it must be a text")
        return value

    def points(self, value: Any, place: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fail(place, f"is {_kind(value)}; it must be a number")
        if not 0 <= value <= 1000:
            raise self.fail(place, f"is {value:g}; it must be in 0..1000")
        return value

    def text(self, value: Any, place: str) -> Text:
        if isinstance(value, str):
            value = {"en": value}
        forms = self.table(value, place, LANGUAGES, optional=LANGUAGES[1:])
        named = {name: self.string(form, f"{place}.{name}") for name, form in forms.items()}
        return Text(MappingProxyType(named))

    def questions(self, value: Any, place: str) -> tuple[Text, ...]:
        if isinstance(value, list):
            value = {"en": value}
        forms = self.table(value, place, LANGUAGES, optional=LANGUAGES[1:])
        lists = {
            name: [self.string(each, f"{place}.{name}") for each in self.list(form, place)]
            for name, form in forms.items()
        }
        for name, form in lists.items():
            if len(form) != len(lists["en"]):
                what = f"has {len(form)} questions, and {place}.en has {len(lists['en'])}"
                raise self.fail(f"{place}.{name}", what)
        rows = zip(*lists.values(), strict=True)
        return tuple(Text(MappingProxyType(dict(zip(lists, row, strict=True)))) for row in rows)

    def key(self, value: Any, place: str) -> str:
        key = self.string(value, place)
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,39}", key):
            hint = "a key has small letters, digits and hyphens"
            raise self.fail(place, f"is {key!r}", hint)
        if key in self.keys:
            raise self.fail(place, f"is {key!r}, which {self.keys[key]} is already")
        self.keys[key] = place
        return key

    def section(self, value: Any, place: str) -> Section:
        if isinstance(value, dict) and "parts" not in value:
            part = self.part(value, place)
            return Section(part.key, part.title, (part,))
        table = self.table(value, place, ("key", "title", "parts"))
        parts = self.parts(table["parts"], f"{place}.parts")
        if not parts:
            raise self.fail(f"{place}.parts", "is empty")
        title = self.text(table["title"], f"{place}.title")
        return Section(self.key(table["key"], f"{place}.key"), title, parts)

    def parts(self, value: Any, place: str) -> tuple[Part, ...]:
        rows = enumerate(self.list(value, place), start=1)
        return tuple(self.part(each, f"{place}[{number}]") for number, each in rows)

    def part(self, value: Any, place: str) -> Part:
        names = ("key", "title", "points", "questions", "needs")
        table = self.table(value, place, names, optional=("questions", "needs"))
        needs = self.list(table.get("needs", []), f"{place}.needs")
        for need in needs:
            if need not in NEEDS:
                hint = f"there are: {', '.join(NEEDS)}"
                raise self.fail(f"{place}.needs", f"has {need!r}", hint)
        return Part(
            key=self.key(table["key"], f"{place}.key"),
            title=self.text(table["title"], f"{place}.title"),
            points=self.points(table["points"], f"{place}.points"),
            questions=self.questions(table.get("questions", []), f"{place}.questions"),
            needs=tuple(needs),
        )

    def file_name(self, value: Any) -> str:
        place = "submission.file_name"
        name = self.string(value, place)
        fields = re.findall(r"\{[^{}]*\}", name)
        rest = re.sub(r"\{[^{}]*\}", "", name)
        if sorted(fields) != ["{name}", "{student_id}"] or "{" in rest or "}" in rest:
            hint = 'for instance "LAB5_{student_id}_{name}.zip"'
            raise self.fail(place, "must have {student_id} and {name} once each", hint)
        if not name.endswith(".zip"):
            raise self.fail(place, f"is {name!r}; it must end with .zip")
        if any(c in '\\/:*?"<>|' or unicodedata.category(c)[0] == "C" for c in rest):
            raise self.fail(place, f"is {name!r}; a file name has no such characters")
        return name

    def pattern(self, value: Any, place: str) -> str:
        text = self.string(value, place)
        try:
            re.compile(text)
        except (re.error, RecursionError, OverflowError) as error:
            raise self.fail(place, f"is no regular expression: {error}") from None
        return text

    def protocol(self, value: Any) -> str:
        name = self.string(value, "grading.protocol")
        from labkit.evaluation.protocol import find_protocol  # slow: it imports torch

        try:
            return find_protocol(name).name
        except LabkitError as error:
            raise self.fail("grading.protocol", f"is {name!r}: {error.what}", error.hint) from None

    def grades(self, value: Any) -> tuple[tuple[float, float], ...]:
        place = "grading.psnr"
        rows = []
        for number, row in enumerate(self.list(value, place), start=1):
            if not isinstance(row, list) or len(row) != 2:
                hint = "a row is [dB, per cent], such as [25.0, 100]"
                raise self.fail(f"{place}[{number}]", "is no pair of numbers", hint)
            bound, share = (self.points(each, f"{place}[{number}]") for each in row)
            if share > 100:
                raise self.fail(f"{place}[{number}]", f"gives {share:g} per cent")
            rows.append((float(bound), share))
        if not rows:
            raise self.fail(place, "is empty")
        for before, after in itertools.pairwise(rows):
            if after[0] >= before[0] or after[1] > before[1]:
                what = f"is not in order: {list(after)} comes after {list(before)}"
                raise self.fail(place, what, "write the best grade first")
        return tuple(rows)

    def exercises(self, value: Any) -> Mapping[str, float]:
        if not isinstance(value, dict):
            raise self.fail("exercises", f"is {_kind(value)}; it must be a table")
        points = {name: self.points(each, f"exercises.{name}") for name, each in value.items()}
        return MappingProxyType(points)


def _kind(value: Any) -> str:
    kinds = {dict: "a table", list: "a list", str: "a text", bool: "true or false"}
    kind = kinds.get(type(value), "a number" if isinstance(value, int | float) else "a date")
    return "an empty text" if value == "" else kind
