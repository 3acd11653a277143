"""An evaluation in tables and sentences: every figure with its interval, aligned, and in words."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from labkit.evaluation import Evaluation
from labkit.evaluation.regions import RegionScores
from labkit.reporting.tables import as_text, sentences, tables_of


@pytest.fixture
def evaluation() -> Evaluation:
    """Made by hand: predictions of 24 and 22 dB, of which the course makes 1 dB more."""
    per_clip = np.array([24.0, 22.0])
    prediction = np.repeat(per_clip[:, None], 10, axis=1)
    psnr = {
        "prediction": prediction,
        "repeat_last": prediction - 5,
        "prior_mean": prediction,
        "posterior": prediction + 2,
    }
    count = np.zeros((2, 10, 3))
    count[:, :, 0], count[:, :, 1] = 90, 10  # nothing was moved
    squared = 3 * count * 0.01
    return Evaluation(
        protocol="protocol frame: by hand",
        name="frame",
        n_past=2,
        best_of=1,
        scores={
            "psnr": psnr,
            "channel_psnr": {name: values + 1 for name, values in psnr.items()},
            "ssim": {name: values / 30 for name, values in psnr.items()},
        },
        samples_psnr=per_clip[:, None] + np.array([0.0, 3.0, -3.0]),
        deviation=np.full((2, 10), 4.0),
        regions=RegionScores(count, {"prediction": squared, "repeat_last": squared,
                                     "prior_mean": squared, "posterior": squared},
                             dict.fromkeys(psnr, count * 0.5), count * 4.0),
        clip_ids=np.array(["a", "b"]),
        clip_numbers=np.arange(2),
        starts=np.zeros(2, np.int64),
        examples={},
        bair_test=True,
    )  # fmt: skip


def test_tables_show_means_intervals_regions_and_steps(evaluation) -> None:
    means, by_psnr, by_ssim, steps, _ = tables_of(evaluation)
    assert [row.label for row in means.rows] == [
        "prediction",
        "repeat last frame",
        "mean of the prior",
        "posterior (sees\N{NO-BREAK SPACE}the\N{NO-BREAK SPACE}target)",
    ]
    assert means.rows[0].cells[0] == "23.00 [22.00, 24.00]"
    assert means.rows[0].cells[1] == "24.00 [23.00, 25.00]"
    assert "2 clips" in means.caption
    assert list(by_psnr.head) == ["", "arm (10%)", "moved objects (0%)", "rest (90%)"]
    assert by_psnr.rows[0].cells == ["20.00 [20.00, 20.00]", "-", "20.00 [20.00, 20.00]"]
    assert by_ssim.rows[0].cells[0] == "0.500 [0.500, 0.500]"
    assert [row.label for row in steps.rows] == [f"t = {t}" for t in range(2, 12)]
    assert steps.rows[3].cells[1] == "18.00 [17.00, 19.00]"


def test_text_is_aligned(evaluation) -> None:
    for table in tables_of(evaluation):
        lines = [line for line in as_text(table).split("\n") if line.startswith("  ")]
        assert len(lines) == len(table.rows) + 1
        assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_gets_blocks_of_columns(evaluation, width) -> None:
    """Nothing is lost, and every block has the names of the rows."""
    means, *_ = tables_of(evaluation)
    long = dataclasses.replace(
        means,
        rows=[dataclasses.replace(row, label=f"{row.label} {'name ' * 8}") for row in means.rows],
    )
    assert as_text(means, 1000) == as_text(means)
    for table in (means, long):
        lines = as_text(table, width).splitlines()
        assert max(map(len, lines)) <= width
        shown = " ".join(" ".join(lines).split())
        for row in table.rows:
            assert all(cell in shown for cell in row.cells)
        named = [line for line in lines if line.startswith("  mean")]
        assert len(named) > 1
        assert sum(len(line.split("  ")) for line in named) > len(table.head)


def test_words_tell_of_the_spread_and_the_grade(evaluation) -> None:
    spread, grade = sentences(evaluation)
    assert "3 samples" in spread
    assert "4.00 [4.00, 4.00] grey levels" in spread
    assert "arm 4.00, moved objects nan" not in spread
    assert "best sample of a clip is 3.00" in spread
    assert "The latent is in use" in spread
    assert "90 %" in grade
    assert "24.00 [23.00, 25.00] dB" in grade
    assert "all of it from 25 dB" in grade


@pytest.mark.parametrize(
    ("deviation", "gain", "words"),
    [
        (0.01, 0.0, "has collapsed"),
        (0.5, 0.0, "almost no effect"),
        (3.0, -0.2, "z carries no information"),
        (0.01, 1.0, "do not match"),
        (0.5, 1.0, "in use"),
    ],
)
def test_a_collapsed_posterior_shows_in_words(evaluation, deviation, gain, words) -> None:
    psnr = evaluation.psnr | {"posterior": evaluation.psnr["prior_mean"] + gain}
    changed = dataclasses.replace(
        evaluation,
        deviation=np.full((2, 10), deviation),
        scores=evaluation.scores | {"psnr": psnr},
    )
    assert words in sentences(changed)[0]


def test_a_grade_is_of_one_sample_of_the_first_frames(evaluation) -> None:
    """Never of the best of N, of other windows, or of a shorter horizon."""
    scores = {metric: dict(table) for metric, table in evaluation.scores.items()}
    scores["channel_psnr"]["one_sample"] = scores["channel_psnr"]["prediction"] - 2.5
    scores["psnr"]["one_sample"] = scores["psnr"]["prediction"]
    scores["ssim"]["one_sample"] = scores["ssim"]["prediction"]
    best = dataclasses.replace(
        evaluation, scores=scores, regions=None, best_of=20, name="best-of-20"
    )
    assert "60 %" in sentences(best)[1]
    assert tables_of(best)[0].rows[0].label == "best of 20, chosen by the truth"
    for changed in ({"n_past": 1}, {"starts": np.array([0, 3])}, {"bair_test": False}):
        assert len(sentences(dataclasses.replace(evaluation, **changed))) == 1


def test_a_protocol_per_channel_has_one_column_of_psnr(evaluation) -> None:
    scores = evaluation.scores | {"channel_psnr": dict(evaluation.psnr)}
    means = tables_of(dataclasses.replace(evaluation, scores=scores))[0]
    assert list(means.head) == ["", "PSNR, dB", "SSIM"]


def test_notes_follow(evaluation) -> None:
    noted = dataclasses.replace(evaluation, notes=("LPIPS is not measured.",))
    assert sentences(noted)[-1] == "LPIPS is not measured."
