"""What `labkit submit` puts into the report: the runs' pictures, figures, settings and protocols.
No sentence of it judges a result: the discussion is the student's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from labkit.course.rules import Part, Rules
from labkit.course.submit_report import PICTURES
from labkit.course.submit_runs import StudentRun
from labkit.fields import flattened
from labkit.presets import COURSE

APPENDIX = "appendix"
"""key of the block at the report's end"""
ALWAYS = (
    "seed",
    "data.condition",
    "kl.schedule",
    "kl.max_weight",
    "teacher_forcing.schedule",
    "teacher_forcing.start",
    "teacher_forcing.decay_step",
    "training.epochs",
    "training.updates_per_epoch",
    "training.batch_size",
    "training.learning_rate",
    "model.backbone",
    "model.latent_size",
)
"""settings that the report shows in any case; others where a run differs from the course's"""
HIDDEN = ("data.root",)
"""a folder of the student's machine"""

_WORDS = {
    "en": {
        "gif": "{run}: test clip {clip}, animated. A PDF shows the first frame; the file "
        "runs/{run}/gifs/clip_{clip}.gif of the submission moves.",
        "strip": "{run}: test clip {clip}, the prediction at each time step.",
        "curves": "{run}: KL loss and PSNR over the epochs, with the KL weight and the "
        "teacher-forcing ratio.",
        "psnr": "{run}: PSNR at each predicted time step.",
        "certificate": "{run}: certificate of the leak proof, {verdict}.",
        "run": "run",
        "psnr_step": "PSNR in dB at each time step",
        "repeat": "repeating the last context frame",
        "mean": "mean",
        "compared": "The settings in which the runs differ, and their figures",
        "clips": "test clips",
        "interval": "95 % interval over clips",
        "setting": "setting",
        "protocol": "Protocol",
        "appendix": "Appendix: runs, settings and protocols",
        "settings": "Settings of the runs. All of them are in runs/NAME/config.json of the "
        "submission.",
        "made": "Written by labkit submit from the runs handed in.",
    },
    "zh-TW": {
        "gif": "{run}:測試影片 {clip} 之動畫。PDF 只顯示第一個畫面,繳交檔中的 "
        "runs/{run}/gifs/clip_{clip}.gif 會播放。",
        "strip": "{run}:測試影片 {clip},每個時間點的預測畫面。",
        "curves": "{run}:各 epoch 之 KL loss 與 PSNR,以及 KL 權重與教師強制比例。",
        "psnr": "{run}:每個預測時間點的 PSNR。",
        "certificate": "{run}:未來畫面洩漏檢驗之證明,結果為 {verdict}。",
        "run": "訓練",
        "psnr_step": "每個時間點的 PSNR (dB)",
        "repeat": "重複最後一個已知畫面",
        "mean": "平均",
        "compared": "各次訓練不同的設定與其結果",
        "clips": "測試影片數",
        "interval": "95 % 信賴區間(以影片計)",
        "setting": "設定",
        "protocol": "評估方式",
        "appendix": "附錄:訓練、設定與評估方式",
        "settings": "各次訓練的設定。全部設定見繳交檔中的 runs/NAME/config.json。",
        "made": "由 labkit submit 依繳交的訓練產生。",
    },
}


@dataclass
class Blocks:
    """Generated Markdown by the key of its part, and the pictures that it shows."""

    texts: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)


def blocks_of(runs: Sequence[StudentRun], rules: Rules, language: str) -> Blocks:
    """The blocks of the parts that need pictures or a comparison of runs, and the appendix. Without
    runs there are none.

    Args:
        runs: in the order in which the report shows them.
        rules: which part needs what.
        language: en or zh-TW.
    """
    made = Blocks()
    if not runs:
        return made
    words = _WORDS[language]
    for part in (part for section in rules.report for part in section.parts):
        pieces = _part(part, runs, words, made.pictures)
        if pieces:
            made.texts[part.key] = "\n\n".join(pieces)
    made.texts[APPENDIX] = "\n\n".join(_appendix(runs, words, made.pictures))
    return made


def _part(
    part: Part, runs: Sequence[StudentRun], words: dict[str, str], pictures: dict[str, bytes]
) -> list[str]:
    pieces = []
    for run in runs if {"gif", "strip"} & set(part.needs) else ():
        for need, made, ending in (("gif", run.gifs, "gif"), ("strip", run.strips, "png")):
            file = f"{need}s/clip_0.{ending}"
            if need in part.needs and file in made:
                name = f"{PICTURES}/{run.name}_{need}.{ending}"
                caption = words[need].format(run=run.name, clip=0)
                pieces.append(_picture(name, made[file], caption, pictures))
    if "strip" in part.needs:
        pieces += _psnr_table(runs, words)
    for run in runs if "curves" in part.needs else ():
        for file in ("curves.png", "psnr.png"):
            if file in run.files:
                caption = words[file.removesuffix(".png")].format(run=run.name)
                name = f"{PICTURES}/{run.name}_{file}"
                pieces.append(_picture(name, run.files[file], caption, pictures))
    if "two_schedules" in part.needs and len(runs) > 1:
        pieces += _comparison(runs, words)
    return pieces


def _appendix(
    runs: Sequence[StudentRun], words: dict[str, str], pictures: dict[str, bytes]
) -> list[str]:
    pieces = [f"## {words['appendix']}", words["made"], f"**{words['settings']}**"]
    pieces.append(_settings(runs, words, everywhere=True))
    for run in runs:
        if run.evaluation is not None:
            sentence = _escaped(f"{run.name}: {run.evaluation.protocol}.")
            pieces.append(f"**{words['protocol']}**, {sentence}")
    for run in runs:
        if run.certificate is not None and "certificate.png" in run.files:
            verdict = str(run.certificate["verdict"])
            caption = words["certificate"].format(run=run.name, verdict=verdict)
            name = f"{PICTURES}/{run.name}_certificate.png"
            pieces.append(_picture(name, run.files["certificate.png"], caption, pictures))
    return pieces


def _picture(name: str, data: bytes, caption: str, pictures: dict[str, bytes]) -> str:
    pictures[name] = data
    return f"![{_escaped(caption)}]({name})"


def _psnr_table(runs: Sequence[StudentRun], words: dict[str, str]) -> list[str]:
    """A row a run, a column a time step. Runs with another window have a table of their own."""
    windows: dict[tuple[int, int], list[tuple[str, list[float]]]] = {}
    for run in runs:
        if run.evaluation is None:
            continue
        steps = run.evaluation.per_step("psnr").value
        rows = windows.setdefault((run.evaluation.n_past, len(steps)), [])
        if not rows:
            repeat = run.evaluation.per_step("psnr", "repeat_last").value
            rows.append((words["repeat"], [*repeat, np.mean(repeat)]))
        rows.insert(-1, (run.name, [*steps, np.mean(steps)]))
    pieces = []
    for (n_past, horizon), rows in windows.items():
        head = [words["run"], *(f"t={n_past + t}" for t in range(horizon)), words["mean"]]
        body = [[name, *(f"{value:.1f}" for value in values)] for name, values in rows]
        pieces += [f"**{words['psnr_step']}**", _table([head, *body])]
    return pieces


def _comparison(runs: Sequence[StudentRun], words: dict[str, str]) -> list[str]:
    rows = []
    for label, metric, digits in (("PSNR, dB", "psnr", 2), ("SSIM", "ssim", 3)):
        means = [run.evaluation and run.evaluation.mean(metric) for run in runs]
        rows.append([label, *("-" if m is None else f"{m.value:.{digits}f}" for m in means)])
        bounds = [
            "-" if m is None or np.isnan(m.low) else f"{m.low:.{digits}f}..{m.high:.{digits}f}"
            for m in means
        ]
        rows.append([f"{label.partition(',')[0]}, {words['interval']}", *bounds])
    counts = [str(run.evaluation.clips) if run.evaluation else "-" for run in runs]
    rows.append([words["clips"], *counts])
    table = _settings(runs, words, everywhere=False, more=rows)
    return [f"**{words['compared']}**", table]


def _settings(
    runs: Sequence[StudentRun],
    words: dict[str, str],
    *,
    everywhere: bool,
    more: Sequence[Sequence[str]] = (),
) -> str:
    """A row a setting, a column a run: those in which the runs differ, or with `everywhere` also
    those in ALWAYS and those that are not the preset's `course`."""
    values = [dict(flattened(run.config.to_dict())) for run in runs]
    usual = dict(flattened(COURSE.to_dict()))
    rows = [[words["setting"], *(run.name for run in runs)]]
    for name in values[0]:
        if name in HIDDEN:
            continue
        found = [each.get(name) for each in values]
        differs = any(value != found[0] for value in found)
        shown = name in ALWAYS or any(value != usual.get(name) for value in found)
        if differs or (everywhere and shown):
            rows.append([name, *map(_value, found)])
    return _table([*rows, *more])


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown. Pandoc takes the columns' widths from the dashes where it is wide."""
    head, *body = [[_escaped(cell) for cell in row] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(head, *body, strict=True)]
    rule = [f"{'-' * (width - 1)}{'-' if n == 0 else ':'}" for n, width in enumerate(widths)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def _escaped(text: str) -> str:
    """A text whose letters mean nothing to Markdown, on one line."""
    line = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>|$#~^" else c for c in line)
