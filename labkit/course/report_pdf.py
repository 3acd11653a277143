"""A report in Markdown -> PDF, by pandoc and Typst: no browser, no LaTeX, no network.

The same text and pictures make the same bytes on every machine: the fonts come with the packages of
the extra `course`, and the system's own are not used. Formulas are LaTeX between dollar signs.
Chinese text is set in Noto Sans CJK.
"""

from __future__ import annotations

import datetime
import functools
import importlib.util
import json
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from labkit.errors import LabkitError

MARKDOWN = (
    "markdown-raw_html-raw_tex-raw_attribute-citations-example_lists-yaml_metadata_block"
    "-pandoc_title_block-native_divs-native_spans"
)
"""Pandoc's Markdown without everything that could bring code or files in"""
MOST_CHARACTERS = 2_000_000
"""longest report that is read"""
MOST_PICTURE = 50_000_000
"""bytes of one picture"""
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp"}
INSTALL = 'pip install "labkit[course]" -c constraints.txt'
FAMILY = "Noto Sans CJK TC"
SYSTEM_FAMILIES = (
    FAMILY,
    "Noto Sans TC",
    "Source Han Sans TC",
    "Microsoft JhengHei",
    "PingFang TC",
    "Heiti TC",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
)
"""Fonts of systems that have Chinese letters, for an installation without the font's package"""

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_ENVIRONMENT = re.compile(
    r"(?<![$\\])\\begin\{(align|equation|gather|multline)(\*?)\}(.*?)\\end\{\1\2\}", re.DOTALL
)
_ALIGNED = {"align": "aligned", "gather": "gathered", "multline": "gathered"}


@dataclass(frozen=True)
class Pdf:
    """A report as PDF."""

    data: bytes
    notes: tuple[str, ...]
    """sentences: pictures that were not found, formulas that could not be set, letters without a
    glyph"""


def check_installed() -> None:
    """Raises LabkitError unless the packages for the PDF are installed."""
    missing = [name for name in ("pypandoc", "typst") if importlib.util.find_spec(name) is None]
    if missing:
        what = f"a PDF cannot be written: {' and '.join(missing)} not installed"
        raise LabkitError(what, hint=INSTALL)


def report_pdf(
    markdown: str,
    folder: Path,
    *,
    title: str,
    author: str = "",
    language: str = "en",
    pictures: Mapping[str, bytes] | None = None,
) -> Pdf:
    """Sets a report as PDF.

    Args:
        markdown: the text. Comments (`<!-- ... -->`) are left out, HTML is shown as text.
        folder: where the pictures that it names are; none outside of it is read.
        title, author: shown at its top.
        language: "en" or "zh-TW".
        pictures: further pictures by the name that the text gives them.
    Raises:
        LabkitError: the text is too long, or the packages of the extra `course` are missing.
    """
    check_installed()
    if len(markdown) > MOST_CHARACTERS:
        what = f"the report has {len(markdown):,} characters"
        raise LabkitError(what, hint=f"at most {MOST_CHARACTERS:,} are read")
    text = _ENVIRONMENT.sub(_as_display_math, _COMMENT.sub("", markdown))
    document = _parsed(text)
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="labkit-report-") as place:
        root = Path(place)
        _gather_pictures(document, folder, pictures or {}, root, notes)
        _keep_safe_links(document)
        head = _head(title, author, language)
        data = _compiled(document, head, root, notes)
    notes += _without_glyphs(text + title + author)
    return Pdf(data, tuple(notes))


def first_headings(markdown: str) -> list[tuple[int, str, str]]:
    """The headings of a text: (level, heading as text, the words below it up to the next heading).

    Words are counted without comments, pictures and quoted instructions.
    """
    document = _parsed(_COMMENT.sub("", markdown))
    found: list[tuple[int, str, list[str]]] = []
    for block in document["blocks"]:
        if block["t"] == "Header":
            found.append((block["c"][0], _text_of(block["c"][2]), []))
        elif found and block["t"] != "BlockQuote":
            found[-1][2].append(_text_of(block))
    return [(level, heading, " ".join(words).strip()) for level, heading, words in found]


def picture_addresses(markdown: str) -> list[str]:
    """The addresses of the pictures that a text shows, each once."""
    text = _COMMENT.sub("", markdown)
    if "![" not in text:  # pandoc takes a second to start
        return []
    document = _parsed(text)
    return list(dict.fromkeys(image["c"][2][0] for image in _nodes(document, ("Image",))))


def _parsed(text: str) -> dict[str, Any]:
    import pypandoc

    wanted = f"{MARKDOWN}+east_asian_line_breaks"
    return json.loads(pypandoc.convert_text(text, "json", wanted, extra_args=["--sandbox"]))


def _as_display_math(found: re.Match[str]) -> str:
    """`\\begin{align} ... \\end{align}`, which JupyterLab shows as a formula, as one."""
    inner = _ALIGNED.get(found[1])
    body = f"\\begin{{{inner}}}{found[3]}\\end{{{inner}}}" if inner else found[3]
    return f"$${body.strip()}$$"


# ------------------------------------------------------------------------ pandoc's document


def _nodes(value: Any, kinds: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Every element of those kinds in a document, outer ones first."""
    if isinstance(value, dict):
        if value.get("t") in kinds:
            yield value
        for inner in value.values():
            yield from _nodes(inner, kinds)
    elif isinstance(value, list):
        for inner in value:
            yield from _nodes(inner, kinds)


def _text_of(value: Any) -> str:
    """The words of an element; a picture has none."""
    if isinstance(value, list):
        return "".join(map(_text_of, value))
    if not isinstance(value, dict) or value.get("t") in ("Image", "Figure", "RawBlock"):
        return ""
    kind, content = value.get("t"), value.get("c")
    if kind == "Str":
        return content
    if kind in ("Space", "SoftBreak", "LineBreak"):
        return " "
    if kind in ("Code", "CodeBlock", "Math"):
        return f"{content[1]} "
    if kind in ("Para", "Plain", "Header"):
        return f"{_text_of(content)} "
    return _text_of(content)


def _gather_pictures(
    document: dict[str, Any],
    folder: Path,
    pictures: Mapping[str, bytes],
    root: Path,
    notes: list[str],
) -> None:
    """Puts the pictures into `root` under names of our own. One that is not found becomes words."""
    written: dict[str, str] = {}
    for image in _nodes(document, ("Image",)):
        url = image["c"][2][0]
        if url not in written:
            data, ending = _picture(url, folder, pictures)
            written[url] = f"picture-{len(written)}{ending}" if data else ""
            if data:
                (root / written[url]).write_bytes(data)
            else:
                notes.append(f"The report shows {url[:100]}, and there is no such picture.")
        if written[url]:
            image["c"][2][0] = written[url]
        else:
            image["t"], image["c"] = "Str", f"[picture not found: {url[:100]}]"


def _picture(url: str, folder: Path, pictures: Mapping[str, bytes]) -> tuple[bytes, str]:
    """A picture's bytes and ending; no bytes where there is none to show."""
    ending = Path(url).suffix.lower()
    return (pictures[url] if url in pictures else local_picture(url, folder)), ending


def local_picture(url: str, folder: Path) -> bytes:
    """A picture within a folder; no bytes where there is none, or it is too large.

    Args:
        url: as the text names it: relative to the folder, spaces as they are or as %20.
        folder: nothing outside of it is read.
    """
    if Path(url).suffix.lower() not in PICTURES or "://" in url:
        return b""
    for name in dict.fromkeys((url, unquote(url))):
        try:
            file, place = (folder / name).resolve(), folder.resolve()
            if file.is_relative_to(place) and file.is_file():
                return file.read_bytes() if file.stat().st_size <= MOST_PICTURE else b""
        except (OSError, ValueError):
            continue
    return b""


def _keep_safe_links(document: dict[str, Any]) -> None:
    """A link that leads to anything but a web page or an address stays as text."""
    for link in _nodes(document, ("Link",)):
        if not re.match(r"(https?://|mailto:|#)", link["c"][2][0], re.IGNORECASE):
            link["t"], link["c"] = "Span", [["", [], []], link["c"][1]]


# ----------------------------------------------------------------------------------- Typst


def _compiled(document: dict[str, Any], head: str, root: Path, notes: list[str]) -> bytes:
    """The PDF. A formula or picture that cannot be set is shown as its source."""
    import typst

    try:
        return _compile(head + _as_typst(document["blocks"], notes), root)
    except typst.TypstError:
        pass
    for math in _nodes(document, ("Math",)):
        kind, source = math["c"]
        if not _compiles([{"t": "Para", "c": [{"t": "Math", "c": [kind, source]}]}], root):
            math["t"], math["c"] = "Code", [["", [], []], source]
            notes.append(_unset(source))
    for image in _nodes(document, ("Image",)):
        name = image["c"][2][0]
        if not _compiles([{"t": "Para", "c": [{"t": "Image", "c": image["c"]}]}], root):
            image["t"], image["c"] = "Str", f"[picture cannot be read: {name}]"
            notes.append(f"The picture {name} cannot be read.")
    try:
        return _compile(head + _as_typst(document["blocks"], notes), root)
    except typst.TypstError as error:
        what = f"the report cannot be set as PDF: {error.message[:200]}"
        raise LabkitError(what, hint="take out what the message names, and try again") from None


def _compiles(blocks: list[dict[str, Any]], root: Path) -> bool:
    import typst

    try:
        _compile(_as_typst(blocks, []), root)
    except typst.TypstError:
        return False
    return True


def in_pandoc(blocks: list[dict[str, Any]], kind: str, *options: str) -> tuple[str, list[str]]:
    """Blocks of pandoc's document in another format, and the formulas that stay LaTeX because
    pandoc does not know them."""
    import pypandoc

    document = json.dumps({**_parsed(""), "blocks": blocks})
    log = logging.getLogger("pypandoc")
    warnings = _Records()
    before = log.handlers, log.propagate
    log.handlers, log.propagate = [warnings], False
    try:
        words = ["--sandbox", "--wrap=none", *options]
        text = pypandoc.convert_text(document, kind, "json", extra_args=words)
    finally:
        log.handlers, log.propagate = before
    found = re.findall(r"TeX math (.*?), rendering", " ".join(warnings.messages), re.DOTALL)
    return text, list(dict.fromkeys(found))


def _as_typst(blocks: list[dict[str, Any]], notes: list[str]) -> str:
    """Blocks in Typst's language. A formula that pandoc does not know stays LaTeX; it is noted."""
    text, unknown = in_pandoc(blocks, "typst")
    notes += [note for each in unknown if (note := _unset(each)) not in notes]
    return text


def _unset(formula: str) -> str:
    return f"A formula could not be set and is shown as text: {' '.join(formula.split())[:60]}"


class _Records(logging.Handler):
    """Gathers what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the message."""
        self.messages.append(record.getMessage())


def _compile(source: str, root: Path) -> bytes:
    import typst

    file = root / "report.typ"
    file.write_text(source, encoding="utf-8")
    return typst.compile(
        file,
        root=root,
        font_paths=_fonts(),
        timestamp=datetime.datetime(1980, 1, 1, tzinfo=datetime.UTC),
    )


def font_file() -> Path | None:
    """The file of Noto Sans CJK that came with the extra `course`; None without it."""
    found = importlib.util.find_spec("noto_cjk_sans_otc")
    if found is None or found.origin is None:
        return None
    file = Path(found.origin).with_name("NotoSansCJK-Regular.ttc")
    return file if file.is_file() else None


@functools.cache
def _fonts() -> Any:
    """Typst's own fonts with Noto's; with those of the system where Noto is not installed."""
    import typst

    file = font_file()
    folders = [] if file is None else [file.parent]
    return typst.Fonts(include_system_fonts=file is None, font_paths=folders)


def _head(title: str, author: str, language: str) -> str:
    """What stands before the text: page, fonts, headings, tables."""
    code, _, region = language.partition("-")
    there = _fonts().families()
    families = [*[each for each in SYSTEM_FAMILIES if each in there][:1], "Libertinus Serif"]
    values = {
        "TITLE": _quoted(title),
        "AUTHOR": _quoted(author),
        "LANG": _quoted(code),
        "REGION": _quoted(region) if region else "none",
        "FONTS": f"({', '.join(map(_quoted, families))},)",
    }
    head = Path(__file__).with_name("report_head.typ").read_text(encoding="utf-8")
    for name, value in values.items():
        head = head.replace(f"«{name}»", value)
    return head + "\n"


def _quoted(text: str) -> str:
    """A text as a string of Typst."""
    plain = "".join(c for c in text if ord(c) >= 32)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _without_glyphs(text: str) -> list[str]:
    """A sentence on letters that the PDF cannot show; empty where there are none."""
    known = _letters()
    lost = [each for each in dict.fromkeys(text) if ord(each) > 127 and ord(each) not in known]
    if not lost:
        return []
    some = " ".join(lost[:12])
    hint = "" if font_file() else f" The font's package is not installed: {INSTALL}."
    return [f"The PDF's fonts have no glyph for {len(lost)} letters of the report: {some}.{hint}"]


@functools.cache
def _letters() -> frozenset[int]:
    """The letters that one of the fonts for text has."""
    from fontTools.ttLib import TTCollection, TTFont

    # Variation selectors, joiners and spaces have no glyph of their own.
    codes = {*range(0x200B, 0x2010), *range(0xFE00, 0xFE10), 0xFEFF, 0x202F, 0xA0}
    for font in _fonts().fonts():
        if font.family in SYSTEM_FAMILIES and font.path:
            file = Path(font.path)
            several = file.suffix.lower() in (".ttc", ".otc")
            with TTCollection(file, lazy=True) if several else TTFont(file, lazy=True) as read:
                codes |= set((read.fonts[0] if several else read).getBestCmap())
    return frozenset(codes)
