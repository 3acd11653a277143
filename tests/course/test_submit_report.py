"""The student's report: its words stay byte for byte, and generated blocks are replaced."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from labkit.course.report_pdf import report_pdf
from labkit.course.report_template import report_template
from labkit.course.rules import Rules
from labkit.course.submit_report import (
    Report,
    filled,
    has_formula,
    language_of,
    own_words,
    read_report,
    shows,
    without_blocks,
)
from labkit.errors import LabkitError

RULES = Rules.load()
EMPTY, CHINESE = report_template(RULES), report_template(RULES, "zh-TW")
CODE = "# my own heading\n\n```python\n# no heading\n<!-- part: curves -->\n```\n\nmore words"
BLOCKS = {"prediction": "A\n\nB", "curves": "C", "discussion": "D", "appendix": "## E"}
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def report(text: str) -> Report:
    return Report(Path("report.md"), text)


@pytest.mark.parametrize("new_line", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "text",
    [
        EMPTY,
        CHINESE,
        EMPTY.rstrip(),
        EMPTY.replace("<!-- write here -->", CODE),
        EMPTY.partition("## Extras")[0],
        "no part at all",
        "",
    ],
)
def test_the_students_words_stay_byte_for_byte(text: str, new_line: str) -> None:
    text = text.replace("\n", new_line)
    once = filled(report(text), BLOCKS, {}).text
    assert all(f"begin {key};" in once for key in BLOCKS)
    assert without_blocks(once) == text
    assert filled(report(once), BLOCKS, {}).text == once, "a second submit replaces the blocks"
    assert filled(report(once), {}, {}).text == text
    if "\r\n" in text:
        assert once.count("\n") == once.count("\r\n")


def test_a_block_stands_at_the_end_of_its_part_or_where_the_student_moved_it() -> None:
    text = filled(report(EMPTY), BLOCKS, {}).text
    after = {"prediction": "### Curves", "curves": "### Discussion", "discussion": "## Extras"}
    for key, heading in after.items():
        end = text.index("labkit submit: end", text.index(f"begin {key};"))
        assert text[end:].split("\n", 2)[2].startswith(heading)
    block = text[text.index("<!-- labkit submit: begin curves") :]
    block = block[: block.index("end -->") + len("end -->")]
    moved = f"{block}\n\nfirst words\n\n{EMPTY}"
    again = filled(report(moved), {"curves": "new"}, {}).text
    assert again.index("new") < again.index("first words")
    assert again.count("begin curves;") == 1


def test_a_block_without_an_end_is_named_by_its_row(tmp_path: Path) -> None:
    file = tmp_path / "report.md"
    file.write_text("one\n<!-- labkit submit: begin curves; x -->\nmine\n", encoding="utf-8")
    with pytest.raises(LabkitError, match=r"report.md, row 2: the block curves of labkit submit"):
        read_report(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(LabkitError, match="the report cannot be read"):
        read_report(file)


def test_own_words_are_neither_questions_nor_comments_nor_generated() -> None:
    for text in (EMPTY, CHINESE, filled(report(EMPTY), BLOCKS, {}).text):
        parts = report(text).parts()
        assert [key for key in parts if own_words(parts[key], RULES.part(key))] == []
        assert len(parts) == 10
    parts = report(EMPTY.replace("<!-- write here -->", CODE)).parts()
    part = RULES.part("introduction")
    assert "more words" in own_words(parts["introduction"], part)
    assert own_words("> What is the task? What goes in, and what comes out?", part) == ""
    assert own_words("> what I quote\n\n", part) == "what I quote"
    assert own_words("答案", part) == "答案"
    assert own_words("![x](a.png)\n## h\n", part) == ""
    assert has_formula("so $x^2$")
    assert has_formula("\\begin{align}x\\end{align}")
    assert not has_formula("<!-- $x$ --> it costs 5 $")
    assert shows('![a](<b c.GIF>) and ![d](e.png "t")', ".gif")
    assert not shows("`gif` a.gif <!-- ![a](b.gif) -->", ".gif")
    assert (language_of(report(EMPTY), RULES), language_of(report(CHINESE), RULES)) == (
        "en",
        "zh-TW",
    )


def test_own_pictures_come_along_and_their_addresses_follow(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a b.png").write_bytes(PNG)
    (tmp_path.parent / "secret.png").write_bytes(PNG)
    text = (
        "![one](mine/a%20b.png) ![two](<mine/a b.png> 't')\n\n![no](../secret.png)\n\n"
        "```\n![one](mine/a%20b.png)\n```\n"
    )
    shown = filled(Report(tmp_path / "report.md", text), {}, {})
    names = list(shown.pictures)
    assert all(shown.pictures[name] == PNG for name in names)
    assert f"![one]({names[0]})" in shown.text
    assert "![two](<report_files/own_" in shown.text
    assert "![no](../secret.png)" in shown.text
    assert "```\n![one](mine/a%20b.png)\n```" in shown.text


def test_the_pdf_reads_nothing_outside_and_says_what_it_cannot_show(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "here" / "bad.png").write_bytes(b"no picture")
    text = (
        "![a](../secret.png) ![b](/etc/passwd) ![c](https://example.org/a.png) ![d](bad.png)\n\n"
        '<script>alert(1)</script> \\input{/etc/passwd} #read("/etc/passwd") $\\nosuch{x}$ 𓀀\n'
    )
    made = report_pdf(text, tmp_path / "here", title="T", author="A")
    assert made.data.startswith(b"%PDF")
    said = " ".join(made.notes)
    for words in ("../secret.png", "/etc/passwd", "https://example.org/a.png", "cannot be read"):
        assert words in said
    assert "no glyph for 1 letters of the report: 𓀀" in said
    assert report_pdf(text, tmp_path / "here", title="T", author="A").data == made.data
