"""The empty report that students get: headings, points and questions of the course's rules."""

from __future__ import annotations

from labkit.course.rules import Part, Rules

_WORDS = {
    "en": {
        "intro": (
            "<!-- Write your own words under each question. Keep the comments that begin with "
            "part: they say which part is which. `labkit submit` adds your name and student id, "
            "and the figures, tables and GIFs of your runs. -->\n"
        ),
        "points": "{points:g} points",
        "write": "<!-- write here -->",
        "extras": "Extras",
        "extras_note": "<!-- Up to {points:g} points on top. Delete what you did not do. -->",
        "gif": "<!-- `labkit submit --run RUN` puts the GIF of a test clip here -->",
        "strip": "<!-- `labkit submit --run RUN` puts the prediction at each time step here -->",
        "curves": "<!-- `labkit submit --run RUN` puts the curves of each run here -->",
        "two_schedules": (
            "<!-- needs a run with monotonic and a run with cyclical KL annealing: "
            "`labkit submit --run RUN --run RUN` puts a table of both here -->"
        ),
    },
    "zh-TW": {
        "intro": (
            "<!-- 請在每個問題下方以自己的文字作答。請保留以 part: 開頭的註解,它們標示各個部分。"
            "`labkit submit` 會加入姓名、學號,以及各次訓練的圖、表與 GIF。 -->\n"
        ),
        "points": "{points:g} 分",
        "write": "<!-- 請在此作答 -->",
        "extras": "加分項目",
        "extras_note": "<!-- 最多加 {points:g} 分。沒有做的項目請刪除。 -->",
        "gif": "<!-- `labkit submit --run RUN` 會在此放入測試影片的 GIF -->",
        "strip": "<!-- `labkit submit --run RUN` 會在此放入每個時間點的預測畫面 -->",
        "curves": "<!-- `labkit submit --run RUN` 會在此放入各次訓練的曲線 -->",
        "two_schedules": (
            "<!-- 需要單調式與循環式 KL 退火各一次訓練:"
            "`labkit submit --run RUN --run RUN` 會在此放入兩者的比較表 -->"
        ),
    },
}


def report_template(rules: Rules, language: str = "en") -> str:
    """The empty report as Markdown. Before the text of each part stands a comment with its key,
    such as `<!-- part: introduction -->`, which is the same in all languages."""
    words = _WORDS[language]
    lines = [f"# {rules.title.in_(language)}", "", words["intro"]]
    for number, section in enumerate(rules.report, start=1):
        points = words["points"].format(points=section.points)
        lines += [f"## {number}. {section.title.in_(language)} ({points})", ""]
        single = len(section.parts) == 1
        for part in section.parts:
            if not single:
                points = words["points"].format(points=part.points)
                lines += [f"### {part.title.in_(language)} ({points})", ""]
            lines += _part(part, words, language)
    if rules.extras:
        total = sum(part.points for part in rules.extras)
        lines += [f"## {words['extras']}", "", words["extras_note"].format(points=total), ""]
        for part in rules.extras:
            points = words["points"].format(points=part.points)
            lines += [f"### {part.title.in_(language)} ({points})", ""]
            lines += _part(part, words, language)
    return "\n".join(lines).rstrip() + "\n"


def _part(part: Part, words: dict[str, str], language: str) -> list[str]:
    lines = [f"<!-- part: {part.key} -->", ""]
    for question in part.questions:
        lines.append(f"> {question.in_(language)}")
        lines.append(">")
    if part.questions:
        lines[-1] = ""
    lines += [f"{words[need]}\n" for need in part.needs if need in words]
    if "text" in part.needs:
        lines += [words["write"], ""]
    return lines
