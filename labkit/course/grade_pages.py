"""The pages of a grading: one for the instructor with every submission, one for each student. Both
need no other file and no network, and every text is escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

import labkit.views
from labkit.course.grade_run import RunResult
from labkit.course.grade_submission import PSNR, Graded, decibels
from labkit.course.rules import Rules
from labkit.views.report import data_uri

_WORDS = {
    "en": {
        "title": "{title}: feedback for {student}",
        "problem": "Your submission could not be graded",
        "psnr": "PSNR on the course's test clips",
        "measured": "measured, dB",
        "claimed": "your figure, dB",
        "interval": "95 % interval over clips",
        "repeat": "repeating the last context frame, dB",
        "proof": "leak proof",
        "run": "run",
        "counts": "The run {run} counts: {psnr} dB gives {share:g} % of {of:g} points, that is "
        "{points:g}.",
        "none": "No run counts: there is none whose PSNR could be measured and whose leak proof "
        "is clean.",
        "missing": "What is missing",
        "at_most": "up to {points:g} points",
        "nothing": "Nothing that the rules ask for is missing.",
        "exercises": "Exercises",
        "exercises_sum": "{reached:g} of {points:g} points",
        "by_student": "as checked on your machine",
        "by_course": "as run again by the course",
        "clip": "The first test clip, as predicted by the weights that you handed in.",
        "rest": "Your instructor gives the points of the report, the demo's questions and the "
        "extras.",
        "unmeasured": "not measured",
    },
    "zh-TW": {
        "title": "{title}:{student} 的評分回饋",
        "problem": "您的繳交檔無法評分",
        "psnr": "課程測試影片上的 PSNR",
        "measured": "實測 (dB)",
        "claimed": "您的數值 (dB)",
        "interval": "95 % 信賴區間(以影片計)",
        "repeat": "重複最後一個已知畫面 (dB)",
        "proof": "洩漏檢驗",
        "run": "訓練",
        "counts": "採計 {run}:{psnr} dB,得 {of:g} 分的 {share:g} %,即 {points:g} 分。",
        "none": "沒有可採計的訓練:沒有任何訓練同時可測得 PSNR 且通過洩漏檢驗。",
        "missing": "缺少的部分",
        "at_most": "最多 {points:g} 分",
        "nothing": "規則要求的項目皆已繳交。",
        "exercises": "練習",
        "exercises_sum": "{reached:g} / {points:g} 分",
        "by_student": "依您電腦上的檢查結果",
        "by_course": "由課程重新執行的結果",
        "clip": "以您繳交的權重預測的第一段測試影片。",
        "rest": "報告、展示問答與加分項目的分數由教師評定。",
        "unmeasured": "未測得",
    },
}


def index_page(
    results: Sequence[Graded],
    counts: Mapping[str, bool],
    links: Mapping[str, str],
    rules: Rules,
    command: str,
) -> str:
    """The instructor's page.

    Args:
        results: in the page's order.
        counts: by file, whether it is the submission of its student that counts.
        links: by file, the address of the student's page.
        rules: the course's.
        command: the command that writes the page.
    """
    failed = sum(bool(each.problem) for each in results)
    found = sum(bool(each.findings) for each in results)
    sentences = {run.protocol: None for each in results for run in each.runs if run.protocol}
    entries = [_entry(each, place, counts, links, rules) for place, each in enumerate(results)]
    return _template("grade_index.html").render(
        title=f"{rules.title}: grades",
        headline=f"{len(results) - failed} of {len(results)} submissions graded",
        meaning=f"{found} with findings to look at, {failed} that could not be graded.",
        protocols=list(sentences) or [f"protocol {rules.protocol}"],
        of_psnr=next((part.points for part in rules.demo if part.key == PSNR), 0),
        entries=entries,
        command=command,
        tables=[],
        figures=[],
        clips=[],
        config=[],
    )


def feedback_page(result: Graded, rules: Rules, language: str = "en") -> str:
    """A student's page: what was measured and what is missing. It names no other student and has no
    findings, which are the instructor's to judge."""
    words = _WORDS[language]
    student = " ".join(filter(None, (result.student_id, result.name)))
    of = next((part.points for part in rules.demo if part.key == PSNR), 0)
    share, best = result.psnr_share(rules), result.best
    grade = ""
    if not result.problem:
        grade = words["none"]
        if best is not None and share is not None:
            points, psnr = of * share / 100, decibels(best.measured)
            grade = words["counts"].format(
                run=best.name, psnr=psnr, share=share, of=of, points=points
            )
    exercises = result.claimed_exercises if result.exercises is None else result.exercises
    total = sum(each.points for each in exercises)
    reached = sum(each.reached for each in exercises)
    return _template("grade_feedback.html").render(
        language=language,
        title=words["title"].format(title=rules.title.in_(language), student=student),
        words=words,
        problem=result.problem,
        grade=grade,
        runs=[_run(run, words["unmeasured"]) for run in result.runs],
        pictures=_pictures(result, best),
        missing=[
            {
                "text": each.text(rules, language),
                "points": words["at_most"].format(points=each.points) if each.points else "",
            }
            for each in result.missing
        ],
        exercises=[
            {"name": each.name, "points": f"{each.reached:g} / {each.points:g}"}
            for each in exercises
        ],
        exercises_sum=words["exercises_sum"].format(reached=reached, points=total),
        exercises_by=words["by_student" if result.exercises is None else "by_course"],
        tables=[],
        figures=[],
        clips=[],
        config=[],
        command="",
    )


def _entry(
    result: Graded,
    place: int,
    counts: Mapping[str, bool],
    links: Mapping[str, str],
    rules: Rules,
) -> dict[str, Any]:
    """One submission, for the template."""
    best, share = result.best, result.psnr_share(rules)
    exercises = result.claimed_exercises if result.exercises is None else result.exercises
    lost = {each.where: each.points for each in result.missing}
    said = "claimed" if result.exercises is None else "run by nbgrader"
    total = sum(each.points for each in exercises)
    reached = sum(each.reached for each in exercises)
    return {
        "anchor": f"s{place}",
        "student": " ".join(filter(None, (result.student_id, result.name))) or "(unknown)",
        "student_id": result.student_id,
        "name": result.name,
        "file": result.file,
        "counts": counts[result.file],
        "problem": result.problem,
        "findings": result.findings,
        "notes": result.notes,
        "psnr": decibels(best.measured if best else None),
        "claimed": decibels(best.claimed if best else None),
        "share": "" if share is None else f"{share:g} %",
        "runs": [_run(run, "not measured") for run in result.runs],
        "pictures": _pictures(result, best),
        "missing": [
            {"text": each.text(rules), "points": f"{each.points:g}" if each.points else ""}
            for each in result.missing
        ],
        "lost": f"{sum(lost.values()):g}" if lost else "",
        "exercises": f"{reached:g} of {total:g} points, {said}" if exercises else "",
        "failed_exercises": [each.name for each in exercises if each.reached < each.points],
        "extras": [str(part.title) for part in rules.extras if part.key in result.extras],
        "link": links.get(result.file, ""),
    }


def _run(run: RunResult, unmeasured: str) -> dict[str, Any]:
    kl, forcing = run.settings.get("kl", {}), run.settings.get("teacher_forcing", {})
    low, high = run.interval or (None, None)
    return {
        "name": run.name,
        "measured": decibels(run.measured) or unmeasured,
        "claimed": decibels(run.claimed),
        "interval": f"{decibels(low)}..{decibels(high)}" if low is not None else "",
        "repeat": decibels(run.repeat_last),
        "proof": run.proof,
        "clean": run.clean,
        "convention": run.convention,
        "schedule": kl.get("schedule", ""),
        "forcing": forcing.get("start", ""),
        "seed": run.settings.get("seed", ""),
        "problem": run.problem,
        "steps": [f"{value:.1f}" for value in run.per_step],
    }


def _pictures(result: Graded, best: RunResult | None) -> list[dict[str, str]]:
    """The strip and the GIF of the run that counts, else of every run."""
    names = [best.name] if best is not None else list(result.pictures)
    return [
        {"name": name, **{kind: _uri(data, kind) for kind, data in result.pictures[name].items()}}
        for name in names
        if name in result.pictures
    ]


def _uri(data: str, kind: str) -> str:
    return data_uri(base64.b64decode(data), kind)


def _template(name: str) -> jinja2.Template:
    folders = [Path(__file__).parent, Path(labkit.views.__file__).parent]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name)
