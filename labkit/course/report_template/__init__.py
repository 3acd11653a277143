"""The empty report that students get: headings, points and questions of the course's rules."""

from __future__ import annotations

from labkit.course.rules import Part, Rules

_WORDS = {
    "en": {
        "intro": (
            "Student id: \n\nName: \n\n"
            "<!-- Write your own words under each question. `labkit evaluate RUN` writes the "
            "figures, the tables and the GIFs of a run into its folder. -->\n"
        ),
        "points": "{points:g} points",
        "write": "<!-- write here -->",
        "extras": "Extras",
        "extras_note": "Up to {points:g} points on top. Delete what you did not do.",
        "gif": "<!-- put the GIF of a test clip here (in the run's gifs/) -->",
        "strip": "<!-- put the prediction at each time step here (in the run's figures/) -->",
        "curves": "<!-- put the curves of your runs here (`labkit compare RUN RUN` draws them) -->",
        "two_schedules": "<!-- needs a run with monotonic and a run with cyclical KL annealing -->",
    },
    "zh-TW": {
        "intro": (
            "學號:\n\n姓名:\n\n"
            "<!-- 請在每個問題下方以自己的文字作答。`labkit evaluate RUN` 會將圖、表與 GIF "
            "寫入該次訓練的資料夾。 -->\n"
        ),
        "points": "{points:g} 分",
        "write": "<!-- 請在此作答 -->",
        "extras": "加分項目",
        "extras_note": "最多加 {points:g} 分。沒有做的項目請刪除。",
        "gif": "<!-- 請在此放入測試影片的 GIF(位於訓練資料夾的 gifs/) -->",
        "strip": "<!-- 請在此放入每個時間點的預測畫面(位於訓練資料夾的 figures/) -->",
        "curves": "<!-- 請在此放入訓練曲線(由 `labkit compare RUN RUN` 繪製) -->",
        "two_schedules": "<!-- 需要單調式與循環式 KL 退火各一次訓練 -->",
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
