"""A comparison as tables, and as sentences that follow from its intervals."""

from __future__ import annotations

import numpy as np

from labkit.evaluation.bootstrap import Interval
from labkit.evaluation.metrics import LOWER_IS_BETTER
from labkit.evaluation.sample_diversity import INFORMATIVE
from labkit.experiments.comparison import LEVEL, Comparison, Pair
from labkit.experiments.cycles import cycle_sentences, cycle_table
from labkit.experiments.evaluated_run import differing
from labkit.reporting.tables import METRICS, with_interval
from labkit.views import label_of
from labkit.views.report import Row, Table

MANY_PAIRS = 6
"""with more pairs of arms, the answer names those without a significant difference together"""


def answer(comparison: Comparison) -> list[str]:
    """Whether the latent is in use, without which annealing and priors have no effect, and what
    the cycles of the KL weight bring; then each pair's difference in PSNR and whether it is
    significant."""
    about_z = [_latent_sentence(comparison), *cycle_sentences(comparison)]
    pairs = _pair_sentences(comparison)
    # The latent comes first where the arms differ in it: it explains the differences.
    first, then = (about_z, pairs) if _differ_in_latent(comparison) else (pairs, about_z)
    return [*first, *filter(None, [_seed_sentence(comparison)]), *then]


def tables_of(comparison: Comparison) -> list[Table]:
    """Means, paired differences, each seed, the latent's figures, the settings that differ."""
    tables = [_means(comparison), _differences(comparison)]
    tables += [_seeds(comparison)] if comparison.has_seeds else []
    cycles = cycle_table(comparison)
    tables += [_latents(comparison), *([] if cycles is None else [cycles])]
    return [*tables, _settings(comparison)]


def _pair_sentences(comparison: Comparison) -> list[str]:
    """A sentence a pair. Of many pairs only those with a significant difference have their own;
    one sentence names the others."""
    pairs = comparison.pairs
    if len(pairs) <= MANY_PAIRS:
        return [_pair_sentence(pair, len(pairs)) for pair in pairs]
    apart = [pair for pair in pairs if pair.is_significant()]
    sentences = [_pair_sentence(pair, len(pairs)) for pair in apart]
    others = [pair for pair in pairs if not pair.is_significant()]
    if others:
        names = "; ".join(f"{pair.first} and {pair.second}" for pair in others)
        over = others[0].differences["psnr"].over
        sentences.append(
            f"No significant difference in PSNR over {over}, after correction for {len(pairs)} "
            f"pairs: {names}."
        )
    return sentences


def _differ_in_latent(comparison: Comparison) -> bool:
    """Whether the posterior has collapsed in some arms and not in others."""
    gains = (comparison.posterior_gain(arm).interval.value for arm in comparison.arms)
    return len({float(gain) < INFORMATIVE for gain in gains}) == 2


def _pair_sentence(pair: Pair, pairs: int) -> str:
    found = pair.differences["psnr"]
    value, low, high = (float(each) for each in vars(found.interval).values())
    better, worse = pair.first, pair.second
    if value < 0:
        better, worse, value, low, high = worse, better, -value, -high, -low
    value, low, high = (round(each, 2) + 0.0 for each in (value, low, high))
    interval = "" if np.isnan(low) else f" (95 % interval {low:+.2f} to {high:+.2f} dB)"
    doubt = f"over {found.over}, p = {_p(pair.adjusted['psnr'])}".replace("= <", "<")
    doubt += f" after correction for {pairs} pairs" if pairs > 1 else ""
    if pair.is_significant():
        return (
            f"{better} is {value:.2f} dB better than {worse}{interval}. The difference is "
            f"significant {doubt}."
        )
    ahead = f"{better} is {value:.2f} dB ahead of {worse}"
    if value == 0:
        ahead = f"{better} and {worse} differ by less than 0.01 dB"
    return f"{ahead}{interval}. The difference is not significant {doubt}."


def _seed_sentence(comparison: Comparison) -> str | None:
    """How much is chance: the range of trainings that differ only in their seed."""
    if not comparison.has_seeds:
        return (
            "Each side is a single training, so the differences hold for these weights; another "
            "seed may give other differences. labkit experiment trains several seeds."
        )
    spans = {arm: np.ptp(comparison.each_seed(arm)) for arm in comparison.arms}
    arm = max(spans, key=lambda name: spans[name])
    return (
        f"Effect of the seed alone: trainings of {arm} that differ only in their seed differ by up "
        f"to {spans[arm]:.2f} dB, the most of all arms."
    )


def _latent_sentence(comparison: Comparison) -> str:
    gains = {arm: comparison.posterior_gain(arm).interval for arm in comparison.arms}
    collapsed = [arm for arm, gain in gains.items() if float(gain.value) < INFORMATIVE]
    listed = ", ".join(f"{arm} {_rounded(gain, 2)}" for arm, gain in gains.items())
    start = (
        f"PSNR of the posterior, which sees its target, minus that of the prior's mean: {listed}."
    )
    if len(collapsed) == len(gains):
        return (
            f"{start} It is below {INFORMATIVE:g} dB in every arm: the posterior has collapsed, z "
            "has no effect, and the arms are compared without a working latent."
        )
    if collapsed:
        return (
            f"{start} Below {INFORMATIVE:g} dB the posterior has collapsed: {', '.join(collapsed)}."
        )
    single = [
        f"{arm} {(each < INFORMATIVE).sum()} of {len(each)}"
        for arm in comparison.arms
        if (each := comparison.posterior_gain_of_each(arm)).min() < INFORMATIVE
    ]
    if single:
        return (
            f"{start} The mean is above {INFORMATIVE:g} dB in every arm, but single trainings are "
            f"not, so their posterior has collapsed: {', '.join(single)}."
        )
    return f"{start} It is above {INFORMATIVE:g} dB in every arm: the latent is in use."


def _means(comparison: Comparison) -> Table:
    rows = [
        Row(arm, arm, [_cell(comparison.mean(arm, m).interval, m) for m in comparison.metrics])
        for arm in comparison.arms
    ]
    any_arm = next(iter(comparison.arms))
    first = {any_arm: comparison.arms[any_arm][:1]}
    alone = Comparison(first)
    rows.append(
        Row(
            "repeat_last",
            label_of("repeat_last"),
            [_cell(alone.mean(any_arm, m, "repeat_last").interval, m) for m in comparison.metrics],
        )
    )
    over = _over(comparison)
    return Table(
        f"Means over time and {over}, [95 % interval over {over}]",
        ["", *(METRICS[metric][0] for metric in comparison.metrics)],
        rows,
    )


def _differences(comparison: Comparison) -> Table:
    head, rows = [""], []
    for metric in comparison.metrics:
        head += [METRICS[metric][0], "p"]
    for pair in comparison.pairs:
        cells = []
        for metric in comparison.metrics:
            significant = pair.is_significant(metric)
            cells += [
                _cell(pair.differences[metric].interval, metric, sign=True),
                _p(pair.adjusted[metric]) + ("*" if significant else ""),
            ]
        rows.append(Row("", f"{pair.first} − {pair.second}", cells))
    test = "t test over seeds and clips" if comparison.has_seeds else "sign-flip test over clips"
    lower = any(metric in LOWER_IS_BETTER for metric in comparison.metrics)
    seeds = " and seed by seed" if comparison.has_seeds else ""
    pairs = "1 pair" if len(rows) == 1 else f"{len(rows)} pairs"
    return Table(
        f"Paired differences, clip by clip{seeds}, [95 % interval of each]; p: {test}, after "
        f"Holm's correction for {pairs}; * is below {LEVEL:g}"
        f"{'; of LPIPS, below 0 is better for the first' if lower else ''}",
        head,
        rows,
    )


def _seeds(comparison: Comparison) -> Table:
    seeds = sorted({run.seed for run in comparison.runs})
    rows = []
    for arm, runs in comparison.arms.items():
        values = dict(zip((run.seed for run in runs), comparison.each_seed(arm), strict=True))
        cells = [f"{values[seed]:.2f}" if seed in values else "-" for seed in seeds]
        rows.append(Row(arm, arm, cells))
    return Table("PSNR of each training, dB", ["", *(f"seed {seed}" for seed in seeds)], rows)


def _latents(comparison: Comparison) -> Table:
    rows = []
    for arm in comparison.arms:
        diversity = comparison.sample_diversity(arm)
        rows.append(
            Row(
                arm,
                arm,
                [
                    _span(comparison.last(arm, "updates"), "{:.0f}"),
                    _span(comparison.last(arm, "kl"), "{:.3g}"),
                    _span(comparison.last(arm, "kl_weight"), "{:.3g}"),
                    _rounded(comparison.posterior_gain(arm).interval, 2),
                    _span(comparison.last(arm, "active_units"), "{:.0f}"),
                    "-" if diversity is None else _rounded(diversity.deviation, 2),
                    "-" if diversity is None else _rounded(diversity.best_gain, 2),
                ],
            )
        )
    return Table(
        "The latent. KL, its weight and the active units are of the last epoch; a posterior that "
        "is not better than the prior's mean has collapsed",
        [
            "",
            "updates",
            "KL, nats a frame",
            "KL weight",
            "posterior over prior's mean, dB",
            "active units",
            "deviation of samples, grey levels",
            f"best of {_samples(comparison)} samples over their mean, dB",
        ],
        rows,
    )


def _samples(comparison: Comparison) -> int:
    """Sampled futures of each clip."""
    return comparison.first.samples_psnr.shape[1]


def _settings(comparison: Comparison) -> Table:
    configs = {arm: runs[0].config for arm, runs in comparison.arms.items()}
    found = differing(configs, seed=not comparison.has_seeds)
    rows = [Row("", name, list(map(str, values))) for name, values in found.items()]
    if not rows:
        return Table("Settings that differ: none", ["", *configs], [])
    return Table("Settings that differ; all others are the same", ["", *configs], rows)


def _over(comparison: Comparison) -> str:
    found = {comparison.mean(arm).over for arm in comparison.arms}
    return max(found, key=len)


def _cell(interval: Interval, metric: str, sign: bool = False) -> str:
    digits = METRICS[metric][1]
    text = _rounded(interval, digits)
    return f"+{text}" if sign and float(interval.value) >= 0.5 * 10**-digits else text


def _rounded(interval: Interval, digits: int) -> str:
    """A figure with its interval; adding 0 turns -0.00 into 0.00."""
    parts = (np.asarray(np.round(part, digits) + 0.0) for part in vars(interval).values())
    return with_interval(Interval(*parts), digits)


def _span(values: np.ndarray, form: str) -> str:
    """The values of several runs: one if they are equal, else the smallest and the largest; a dash
    where a run without a history has none."""
    if np.isnan(values).any():
        return "-"
    texts = [form.format(each) for each in (values.min(), values.max())]
    return texts[0] if texts[0] == texts[1] else f"{texts[0]} to {texts[1]}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
