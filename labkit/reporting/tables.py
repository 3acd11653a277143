"""An evaluation as tables and sentences: what the command prints and the report shows."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np

from labkit.evaluation import Evaluation
from labkit.evaluation.bootstrap import Interval
from labkit.evaluation.protocol import GRADES, grade
from labkit.evaluation.regions import REGIONS, RegionScores
from labkit.evaluation.sample_diversity import sample_diversity
from labkit.views import label_of
from labkit.views.report import Row, Table

METRICS = {
    "psnr": ("PSNR, dB", 2),
    "channel_psnr": ("PSNR per channel, dB", 2),
    "ssim": ("SSIM", 3),
    "lpips_alex": ("LPIPS (AlexNet), lower is better", 3),
    "lpips_vgg": ("LPIPS (VGG), lower is better", 3),
}
"""What a metric is called, and its decimals."""

REGION_LABELS = {"arm": "arm", "moved": "moved objects", "rest": "rest"}
"""What a region is called, in the order in which they are shown."""


def tables_of(evaluation: Evaluation, steps: Sequence[str] = ("psnr", "ssim")) -> list[Table]:
    """Each predictor's figures with their intervals: over the whole frame, by region, and at each
    time step for the metrics in `steps`."""
    tables = [_means(evaluation)]
    if evaluation.regions is not None:
        tables += _by_region(evaluation, evaluation.regions)
    return [*tables, *(_steps(evaluation, metric) for metric in steps)]


def sentences(evaluation: Evaluation) -> list[str]:
    """What the tables mean: sample diversity, the course's grade, what was not measured."""
    return [
        *filter(
            None,
            (
                _diversity_sentence(evaluation),
                _positions_sentence(evaluation),
                _fvd_sentence(evaluation),
                _grade_sentence(evaluation),
            ),
        ),
        *evaluation.notes,
    ]


def label(evaluation: Evaluation, predictor: str) -> str:
    """What a predictor is called in this evaluation."""
    if predictor == "prediction" and evaluation.best_of > 1:
        return f"best of {evaluation.best_of}, chosen by the truth"
    if predictor == "integrated_positions":
        return "one sample, positions added up from the actions"
    return label_of(predictor)


def as_text(table: Table, width: int | None = None) -> str:
    """A table in aligned columns of plain text, its caption above.

    Args:
        table: to show.
        width: of the terminal. Columns for which there is no room follow in blocks below, each with
            the names of the rows; None is no limit.
    """
    rows = [table.head, *([row.label, *row.cells] for row in table.rows)]
    names, *columns = zip(*rows, strict=True)
    widths = [max(map(len, column)) for column in columns]
    room = max(map(len, names))
    lines = textwrap.wrap(table.caption, min(100, width or 100))
    if width is None or 2 + room + sum(2 + each for each in widths) <= width:
        return "\n".join([*lines, *_block(names, columns, room)])
    room = min(room, width // 3)
    blocks: list[list[Sequence[str]]] = []
    left = 0
    for column, needed in zip(columns, widths, strict=True):
        if not blocks or left < 2 + needed:
            blocks.append([])
            left = width - 2 - room
        blocks[-1].append(column)
        left -= 2 + needed
    texts = ["\n".join(_block(names, block, room)) for block in blocks]
    return "\n".join([*lines, "\n\n".join(texts)])


def _block(names: Sequence[str], columns: Sequence[Sequence[str]], room: int) -> list[str]:
    """Lines of some columns, with the names of the rows in a column of `room` characters."""
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for name, *cells in zip(names, *columns, strict=True):
        first, *more = textwrap.wrap(name, room) or [""]
        right = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        lines.append("  ".join(["  " + first.ljust(room), *right]).rstrip())
        lines += [f"    {part}" for part in more]
    return lines


def with_interval(interval: Interval, digits: int) -> str:
    """A figure with its interval, as text: "23.51 [23.31, 23.70]"."""
    if np.isnan(interval.value):
        return "-"
    text = f"{interval.value:.{digits}f}"
    if np.isnan(interval.low):
        return text
    return f"{text} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _means(evaluation: Evaluation) -> Table:
    metrics = [name for name in METRICS if name in evaluation.scores]
    both = (evaluation.scores[name]["prediction"] for name in ("psnr", "channel_psnr"))
    if np.array_equal(*both):  # the protocol's own is per channel
        metrics.remove("channel_psnr")
    clips = "1 clip" if evaluation.clips == 1 else f"{evaluation.clips} clips"
    return Table(
        f"Means over time and {clips}, [95 % bootstrap interval over clips]",
        ["", *(METRICS[name][0] for name in metrics)],
        [
            Row(
                predictor,
                label(evaluation, predictor),
                [
                    with_interval(evaluation.mean(name, predictor), METRICS[name][1])
                    for name in metrics
                ],
            )
            for predictor in evaluation.psnr
        ],
    )


def _by_region(evaluation: Evaluation, regions: RegionScores) -> list[Table]:
    order = [list(REGIONS).index(region) for region in REGION_LABELS]
    shares = regions.shares()
    head = [
        "",
        *(f"{name} ({shares[region]:.0%})" for region, name in REGION_LABELS.items()),
    ]
    chosen = "" if evaluation.best_of == 1 else "; the best sample is chosen by the whole frame"
    captions = {
        "psnr": "PSNR by region (and its share of the pixels), dB, of the mean squared error over "
        f"all of its pixels{chosen}",
        "ssim": f"SSIM by region, mean over all of its pixels{chosen}",
    }
    tables = []
    for metric, caption in captions.items():
        measure = regions.psnr if metric == "psnr" else regions.mean_ssim
        rows = []
        for predictor in evaluation.psnr:
            found = measure(predictor, evaluation.resamples)
            cells = [with_interval(found[place], METRICS[metric][1]) for place in order]
            rows.append(Row(predictor, label(evaluation, predictor), cells))
        tables.append(Table(caption, head, rows))
    return tables


def _steps(evaluation: Evaluation, metric: str) -> Table:
    name, digits = METRICS[metric]
    curves = {
        p: evaluation.per_step(metric, p)
        for p in evaluation.scores[metric]
        if p != "integrated_positions"  # its mean is enough
    }
    horizon = len(next(iter(curves.values())).value)
    return Table(
        f"{name}, at each predicted time step",
        ["", *(label(evaluation, predictor) for predictor in curves)],
        [
            Row(
                "",
                f"t = {evaluation.n_past + step}",
                [with_interval(curve[step], digits) for curve in curves.values()],
            )
            for step in range(horizon)
        ],
    )


def _diversity_sentence(evaluation: Evaluation) -> str | None:
    found = sample_diversity(evaluation)
    if found is None:
        return None
    by_region = ""
    if evaluation.regions is not None and evaluation.regions.deviation is not None:
        deviation = evaluation.regions.mean_deviation(evaluation.resamples).value
        places = {region: place for place, region in enumerate(REGIONS)}
        by_region = ", ".join(
            f"{name} {deviation[places[region]]:.2f}"
            for region, name in REGION_LABELS.items()
            if not np.isnan(deviation[places[region]])
        )
        by_region = f" ({by_region})"
    deviation, best, posterior = (
        with_interval(each, 2) for each in (found.deviation, found.best_gain, found.posterior_gain)
    )
    return (
        f"Diversity of {found.samples} samples: a pixel's standard deviation is {deviation} grey "
        f"levels of 255{by_region}; the best sample of a clip is {best} dB above the mean of its "
        "samples. PSNR of the posterior, which sees its target, minus that of the prior's mean: "
        f"{posterior} dB. {found.sentence()}"
    )


def _positions_sentence(evaluation: Evaluation) -> str | None:
    """What the measured positions contribute, where both were scored."""
    if "integrated_positions" not in evaluation.psnr:
        return None
    name = "one_sample" if "one_sample" in evaluation.psnr else "prediction"
    both = [evaluation.psnr[each].mean(axis=1) for each in (name, "integrated_positions")]
    change = with_interval(evaluation.resamples.mean(both[0] - both[1]), 2)
    return (
        "The conditions of predicted steps contain measured end-effector positions, which are "
        f"known only after the step. The PSNR of one sample is {change} dB higher with them than "
        "with positions added up from the actions."
    )


def _fvd_sentence(evaluation: Evaluation) -> str | None:
    if evaluation.fvd is None:
        return None
    frames = evaluation.n_past + evaluation.psnr["prediction"].shape[1]
    return (
        f"FVD {evaluation.fvd:.1f}: {evaluation.clips} clips of {frames} frames, context included, "
        "one sample of each. FVD falls with the number of clips: compare figures of equal numbers "
        "of clips and frames only."
    )


def _grade_sentence(evaluation: Evaluation) -> str | None:
    """The course's grade: of one sample, at least 2 -> 10, of the first frames of all clips of
    BAIR's test split."""
    table = evaluation.scores["channel_psnr"]
    single = table.get("one_sample", table["prediction"])
    if evaluation.n_past != 2 or single.shape[1] < 10 or evaluation.starts.any():
        return None
    if not evaluation.bair_test:
        return None
    reached = evaluation.resamples.mean(single[:, :10].mean(axis=1))
    share, best = grade(float(reached.value)), GRADES[0]
    more = f"; all of it from {best[0]:g} dB" if share < best[1] else ""
    return (
        f"The course's table gives {share} % of the PSNR points for {with_interval(reached, 2)} dB "
        f"(protocol course: 2 -> 10, one sample, PSNR per channel, BAIR's test split{more})."
    )
