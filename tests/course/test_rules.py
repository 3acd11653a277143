"""The course's rules: the coursework's own as default, and every mistake in a copy named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labkit.course.rules import DEFAULT, LANGUAGES, Rules
from labkit.errors import ConfigError, LabkitError
from labkit.evaluation.protocol import GRADES


def test_the_default_rules_are_the_courseworks() -> None:
    rules = Rules.load()
    assert {section.key: section.points for section in rules.report} == {
        "introduction": 5,
        "derivation": 10,
        "implementation": 15,
        "results": 30,
    }
    assert {part.key: part.points for part in rules.demo} == {"questions": 20, "psnr": 20}
    assert [part.points for part in rules.extras] == [10, 10, 10]
    assert rules.total == 100
    assert {key: rules.part(key).points for key in ("prediction", "curves", "discussion")} == {
        "prediction": 10,
        "curves": 5,
        "discussion": 15,
    }
    assert rules.part("discussion").needs == ("text", "two_schedules")
    assert rules.protocol == "course"


def test_the_default_grades_are_those_of_the_evaluation() -> None:
    assert Rules.load().grades == GRADES


@pytest.mark.parametrize(
    ("psnr", "share"), [(30, 100), (25.0, 100), (24.99, 90), (20, 50), (19.9, 0), (float("nan"), 0)]
)
def test_a_bound_belongs_to_its_grade(psnr: float, share: float) -> None:
    assert Rules.load().psnr_share(psnr) == share


def test_each_text_is_there_in_both_languages() -> None:
    rules = Rules.load()
    texts = [rules.title, *(section.title for section in rules.report)]
    texts += [text for part in rules.parts for text in (part.title, *part.questions)]
    for text in texts:
        assert set(text.forms) == set(LANGUAGES), text
        assert re.search(r"[\u4e00-\u9fff]", text.in_("zh-TW")), text
        assert not re.search(r"[\u4e00-\u9fff]", text.in_("en")), text


def test_a_text_without_chinese_is_english() -> None:
    assert Rules.load().title.in_("en") == str(Rules.load().title)


def test_the_name_of_a_submission() -> None:
    rules = Rules.load()
    assert rules.zip_name("310551001", "Ming  Wang") == "DLP_LAB5_310551001_Ming_Wang.zip"
    assert rules.zip_name("310551001", "王小明") == "DLP_LAB5_310551001_王小明.zip"
    # Braces in a name are no fields.
    assert rules.zip_name("310551001", "{name}") == "DLP_LAB5_310551001_{name}.zip"


@pytest.mark.parametrize(
    ("student_id", "name", "words"),
    [
        ("31 05", "Ming", "the student id is '31 05'"),
        ("", "Ming", "the student id is ''"),
        ("310551001\n", "Ming", "the student id"),
        ("../etc", "Ming", "the student id"),
        ("310551001", "a/b", "has the character '/'"),
        ("310551001", "a\\b", "has the character"),
        ("310551001", "a\x00b", "has the character"),
        ("310551001", "a\u202eb", "has the character"),
        ("310551001", "..", "has the character '.'"),
        ("310551001", "  ", "the name is empty"),
        ("310551001", "x" * 300, "the name has 300 characters"),
    ],
)
def test_a_name_that_fits_into_no_file_name_is_refused(
    student_id: str, name: str, words: str
) -> None:
    with pytest.raises(LabkitError, match=re.escape(words)):
        Rules.load().zip_name(student_id, name)


def changed(tmp_path: Path, old: str, new: str) -> Path:
    """A copy of the default rules with one text replaced."""
    text = DEFAULT.read_text(encoding="utf-8")
    assert old in text
    file = tmp_path / "my.toml"
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("points = 5", "points = -1", "report[1].points is -1; it must be in 0..1000"),
        ("points = 5", "points = nan", "report[1].points is nan; it must be in"),
        ("points = 5", 'points = "5"', "report[1].points is a text; it must be a number"),
        ("points = 5", "points = true", "report[1].points is true or false; it must be a number"),
        ("points = 5", "points = 2026-01-01", "report[1].points is a date; it must be a number"),
        ("points = 5", "points = 6", "but report and demo have 101 points together"),
        ("points = 5", "", "report[1].points is missing"),
        ("points = 5", "pionts = 5", "report[1].pionts is no rule of the course (did you mean po"),
        ('needs = ["text"]', 'needs = ["words"]', "report[1].needs has 'words' (there are: text"),
        ('needs = ["text"]', 'needs = "text"', "report[1].needs is a text; it must be a list"),
        ('key = "introduction"', 'key = "results"', "is 'results', which"),
        ('key = "introduction"', 'key = "Über uns"', "report[1].key is 'Über uns'"),
        ('{ en = "Introduction", zh-TW = "簡介" }', "{ zh-TW = '簡介' }", "title.en is missing"),
        ('{ en = "Introduction", zh-TW = "簡介" }', "{ en = 'I', fr = 'I' }", "title.fr is no"),
        ('{ en = "Introduction", zh-TW = "簡介" }', "3", "title is a number; it must be a table"),
        ('"你如何實作編碼器與解碼器?",', "", "questions.zh-TW has 3 questions"),
        ("[25.0, 100], [24.0, 90]", "[24.0, 90], [25.0, 100]", "grading.psnr is not in order"),
        ("[25.0, 100]", "[25.0]", "grading.psnr[1] is no pair of numbers"),
        ("[25.0, 100]", "[25.0, 110]", "grading.psnr[1] gives 110 per cent"),
        ('protocol = "course"', 'protocol = "curse"', "grading.protocol is 'curse'"),
        ("_{student_id}_{name}.zip", "_{name}.zip", "must have {student_id} and {name} once"),
        ("_{student_id}_{name}.zip", "_{student_id}_{name}_{x}.zip", "must have {student_id}"),
        ("_{student_id}_{name}.zip", "_{student_id}/{name}.zip", "has no such characters"),
        ("_{student_id}_{name}.zip", "_{student_id}_{name}.rar", "it must end with .zip"),
        ("[A-Za-z0-9]{4,20}", "[A-Z", "submission.student_id is no regular expression"),
        ("[exercises]", "[exercises]\ncheck-em = 'x'", "exercises.check-em is a text"),
        ("[exercises]", "exercises = 3", "my.toml"),
        ("total = 100", "total = ", "my.toml, row 7: no valid TOML"),
        ("[[demo]]", "[demo]", "my.toml"),
    ],
)
def test_a_mistake_in_the_rules_is_named_by_its_place(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Rules.load(changed(tmp_path, old, new))
    assert words in str(caught.value)
    assert str(tmp_path / "my.toml") in str(caught.value)


def test_points_names_and_exercises_can_be_changed(tmp_path: Path) -> None:
    file = changed(tmp_path, "[exercises]", "[exercises]\ncheck-em = 7")
    text = file.read_text(encoding="utf-8").replace("points = 5", "points = 15", 1)
    file.write_text(text.replace("total = 100", "total = 110"), encoding="utf-8")
    rules = Rules.load(file)
    assert (rules.total, rules.exercise_points) == (110, {"check-em": 7})


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[[" + b"[" * 5000, b"", b"a = " + b"[" * 9000])
def test_a_file_that_is_no_rules_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "my.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"my\.toml"):
        Rules.load(file)


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_bytes(b"\xef\xbb\xbf" + DEFAULT.read_bytes().replace(b"\n", b"\r\n"))
    assert Rules.load(file) == Rules.load()


def test_rules_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
        Rules.load(tmp_path / "none.toml")
