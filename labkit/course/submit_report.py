"""The student's report with the runs' figures and tables in it.

What is generated stands between two comments, a block:

    <!-- labkit submit: begin prediction; ... -->
    <!-- labkit submit: end -->

A block that is already there is replaced. Everything outside of the blocks is the student's: it
stays byte for byte, but for the addresses of pictures, which change to their place in the zip.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from labkit.course.report_pdf import local_picture, picture_addresses
from labkit.course.rules import LANGUAGES, Part, Rules
from labkit.errors import LabkitError
from labkit.files import reading

MOST_BYTES = 4_000_000
"""of a report's file"""
PICTURES = "report_files"
"""folder of the pictures in the zip"""
END = "<!-- labkit submit: end -->"

_PART = re.compile(r"<!--\s*part:\s*([a-z][a-z0-9-]*)\s*-->")
_MARK = r"<!--\s*labkit submit:\s*begin\s+{}[^>]*-->"
_BEGIN = re.compile(_MARK.format(r"(?P<key>[a-z][a-z0-9-]*)"))
_BLOCK = re.compile(
    rf"(?P<before>(?:\r?\n)?){_BEGIN.pattern}(?:(?!{_MARK.format('')}).)*?{END}"
    r"(?P<after>(?:\r?\n)?)",
    re.DOTALL,
)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}#{1,6}(\s|$)")
_IMAGE = re.compile(
    r"!\[(?:[^\[\]]|\[[^\]]*\])*\]"
    r"\(\s*(?:<([^<>\n]*)>|([^()\n]*?))(?:\s+(?:\"[^\"\n]*\"|'[^'\n]*'))?\s*\)"
)
"""![text](address "title"), the address bare or in angle brackets"""
_FORMULA = re.compile(r"\$[^$]+\$|\\begin\{|\\\(|\\\[")


@dataclass(frozen=True)
class Report:
    """A student's report as it was read."""

    file: Path
    text: str
    """as in the file, line endings included, without a byte-order mark"""

    @property
    def folder(self) -> Path:
        """Where the pictures are that it names."""
        return self.file.parent

    def parts(self) -> dict[str, str]:
        """The text below each part's mark, by the part's key, without generated blocks."""
        plain = without_blocks(self.text)
        return {key: plain[start:end] for key, (start, end) in _places(plain).items()}


def read_report(file: Path) -> Report:
    """Reads a report.

    Raises:
        LabkitError: it cannot be read, is no text in UTF-8, or a generated block has no end.
    """
    with reading(file, "the report cannot be read", hint="save it as text in UTF-8"):
        if file.stat().st_size > MOST_BYTES:
            what = f"the report has {file.stat().st_size:,} bytes"
            raise LabkitError(what, file=file, hint=f"at most {MOST_BYTES:,} are read")
        text = file.read_bytes().decode("utf-8-sig")
    for found in _BEGIN.finditer(_BLOCK.sub(_blanked, text)):
        raise LabkitError(
            f"the block {found['key']} of labkit submit has no end",
            file=file,
            row=text.count("\n", 0, found.start()) + 1,
            hint=f"delete the block, or write {END} below it",
        )
    return Report(file, text)


def _blanked(found: re.Match[str]) -> str:
    """The same number of letters and lines, without words."""
    return re.sub(r"[^\r\n]", " ", found[0])


def without_blocks(text: str) -> str:
    """A report without what `filled` put into it."""
    return _BLOCK.sub("", text)


def language_of(report: Report, rules: Rules) -> str:
    """The language whose titles of sections and parts the report has most of."""
    titles = [each.title for each in (*rules.report, *rules.parts)]

    def count(language: str) -> int:
        return sum(title.in_(language) in report.text for title in titles)

    return max(LANGUAGES, key=count)


# ----------------------------------------------------------------------------- parts


def _lines(text: str) -> Iterator[tuple[int, str, bool]]:
    """(offset, line with its ending, whether it is within a block of code)."""
    fence, offset = "", 0
    for line in text.splitlines(keepends=True):
        found = _FENCE.match(line)
        if fence:
            yield offset, line, True
            if found and found[1].startswith(fence) and not line[found.end() :].strip():
                fence = ""
        elif found:
            fence = found[1]
            yield offset, line, True
        else:
            yield offset, line, False
        offset += len(line)


def _places(text: str) -> dict[str, tuple[int, int]]:
    """Start and end of the text of each part. A part ends where the headings before the next
    mark begin. A second mark of one part is ignored."""
    lines = [(offset, line) for offset, line, code in _lines(text) if not code]
    marks = [
        (n, offset, found)
        for n, (offset, line) in enumerate(lines)
        if (found := _PART.search(line))
    ]
    places: dict[str, tuple[int, int]] = {}
    for place, (number, offset, found) in enumerate(marks):
        end = len(text)
        if place + 1 < len(marks):
            later, end, _ = marks[place + 1]
            # Lines of code were left out, so what lies between two lines may be code.
            while later - 1 > number and _is_before_a_part(lines[later - 1][1]):
                before, line = lines[later - 1]
                if text[before + len(line) : lines[later][0]].strip():
                    break
                later -= 1
                end = before if _HEADING.match(line) else end
        places.setdefault(found[1], (offset + found.end(), end))
    return places


def _is_before_a_part(line: str) -> bool:
    """Whether a line is blank, a heading, or a comment."""
    return not _COMMENT.sub("", line).strip() or bool(_HEADING.match(line))


def own_words(text: str, part: Part) -> str:
    """What the student wrote in a part: without comments, the rules' questions, headings and
    pictures."""
    asked = {_bare(form) for question in part.questions for form in question.forms.values()}
    kept = []
    for _, line, code in _lines(_COMMENT.sub("", text)):
        quoted = line.lstrip().startswith(">")
        is_question = quoted and (_bare(line.lstrip("> ")) in asked or not _bare(line))
        if code or not (is_question or _HEADING.match(line)):
            kept.append(line)
    return " ".join(re.findall(r"[^\W_]+", _IMAGE.sub("", "".join(kept))))


def _bare(line: str) -> str:
    return "".join(re.findall(r"\w", line))


def has_formula(text: str) -> bool:
    """Whether a part has a formula."""
    return bool(_FORMULA.search(_COMMENT.sub("", text)))


def shows(text: str, *endings: str) -> bool:
    """Whether a part shows a picture of the student's own with one of those endings."""
    found = _IMAGE.finditer(_COMMENT.sub("", text))
    return any((each[1] or each[2]).lower().endswith(endings) for each in found)


# -------------------------------------------------------------------- filling it


@dataclass
class Filled:
    """The report of the zip."""

    text: str
    pictures: dict[str, bytes] = field(default_factory=dict)
    """by the name that the text gives them"""


def filled(report: Report, blocks: Mapping[str, str], pictures: Mapping[str, bytes]) -> Filled:
    """The report with generated blocks, and all pictures that it shows.

    Args:
        report: the student's.
        blocks: Markdown by the key of the part that it belongs to. One whose part the report does
            not have comes to its end.
        pictures: of the blocks, by the names that they give them.
    """
    new_line = "\r\n" if "\r\n" in report.text else "\n"
    text, left = report.text, dict(blocks)

    def block(key: str) -> str:
        begin = f"<!-- labkit submit: begin {key}; the next labkit submit replaces this block -->"
        return f"{begin}\n\n{left.pop(key).strip()}\n\n{END}".replace("\n", new_line)

    def replaced(found: re.Match[str]) -> str:
        if found["key"] not in left:
            return ""
        return f"{found['before']}{block(found['key'])}{found['after']}"

    text = _BLOCK.sub(replaced, text)
    for key in list(left):
        start, end = _places(text).get(key, (0, len(text)))
        at = start + len(text[start:end].rstrip())
        ending = re.match(r"[ \t]*\r?\n", text[at:])
        at += ending.end() if ending else 0
        # `without_blocks` takes one line ending away at each side.
        after = new_line if ending or not text else ""
        text = f"{text[:at]}{new_line}{block(key)}{after}{text[at:]}"
    shown = Filled(text, dict(pictures))
    _own_pictures(report, shown)
    return shown


def _own_pictures(report: Report, shown: Filled) -> None:
    """Adds the student's pictures, and changes their addresses to their names in the zip."""
    names: dict[str, str] = {}
    for address in picture_addresses(without_blocks(report.text)):
        data = local_picture(address, report.folder)
        if data:
            stem = re.sub(r"[^\w.-]+", "-", PurePosixPath(unquote(address)).name, flags=re.ASCII)
            name = f"{PICTURES}/own_{len(names) + 1}_{stem[-60:]}"
            names[_plain(address)] = name
            shown.pictures[name] = data

    def renamed(found: re.Match[str]) -> str:
        address = found[1] if found[1] is not None else found[2]
        name = names.get(_plain(address))
        if not name:
            return found[0]
        place = 1 if found[1] is not None else 2
        start, end = (each - found.start() for each in found.span(place))
        return f"{found[0][:start]}{name}{found[0][end:]}"

    def outside_blocks(text: str) -> str:
        parts = [line if code else _IMAGE.sub(renamed, line) for _, line, code in _lines(text)]
        return "".join(parts)

    shown.text = _outside_blocks(shown.text, outside_blocks)


def _outside_blocks(text: str, change: Callable[[str], str]) -> str:
    """The text with everything outside of the generated blocks changed."""
    pieces, last = [], 0
    for found in _BLOCK.finditer(text):
        pieces += [change(text[last : found.start()]), found[0]]
        last = found.end()
    return "".join([*pieces, change(text[last:])])


def _plain(address: str) -> str:
    return unquote(address.strip())
