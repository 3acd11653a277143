"""`labkit compare`: runs that are there, side by side; what cannot be compared is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from labkit.cli import main
from labkit.config import Config
from labkit.data.simulator import simulate_pack
from labkit.evaluation import Evaluation
from labkit.evaluation.bootstrap import Resamples
from labkit.evaluation.significance import estimate
from labkit.experiments.answer import answer
from labkit.experiments.comparison import Comparison, compared
from labkit.experiments.evaluated_run import names_of, read_evaluated_run
from labkit.experiments.page import protocol_of
from labkit.presets import SMOKE
from labkit.reporting.evaluate_run import evaluate_run
from labkit.training import train


@pytest.fixture(scope="module")
def runs(simulated, tmp_path_factory) -> Path:
    """Two runs, the second of which is better by 0.5 dB on each clip, give or take."""
    folder = tmp_path_factory.mktemp("runs")
    data = dataclasses.replace(SMOKE.data, root=simulated.as_posix(), n_future=3)
    training = dataclasses.replace(SMOKE.training, epochs=1, updates_per_epoch=1, batch_size=2)
    train(dataclasses.replace(SMOKE, data=data, training=training), folder / "a", progress=False)
    evaluate_run(folder / "a", samples=2, lpips=(), progress=False, views=False)
    shutil.copytree(folder / "a", folder / "b")
    values = json.loads((folder / "b" / "config.json").read_text())
    values["kl"]["schedule"] = "constant"
    (folder / "b" / "config.json").write_text(json.dumps(values))
    improved(folder / "b", np.array([[0.4], [0.5], [0.6]]))
    return folder


def improved(run: Path, plus: np.ndarray) -> None:
    """Raises the PSNR of a run's predictions as its evaluation tells it."""
    found = Evaluation.load(run / "evaluation.json")
    psnr = {**found.psnr, "prediction": found.psnr["prediction"] + plus}
    scores = {**found.scores, "psnr": psnr}
    dataclasses.replace(found, scores=scores).save(run / "evaluation.json")


@pytest.fixture
def copies(runs, tmp_path) -> Path:
    shutil.copytree(runs, tmp_path / "runs")
    return tmp_path / "runs"


def test_two_runs_side_by_side(runs, tmp_path, capsys) -> None:
    out = tmp_path / "page"
    assert main(["compare", str(runs / "a"), str(runs / "b"), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "b is 0.50 dB ahead of a (95 % interval +0.40 to +0.60 dB)" in printed
    # Of the 8 signs of three differences two are as far from 0.
    assert "is not significant over 3 clips, p = 0.250." in " ".join(printed.split())
    assert "Each side is a single training" in printed
    assert "Protocol frame: 2 -> 3 frames" in printed
    for line in printed.splitlines():
        if "kl.schedule" in line:
            assert line.split() == ["kl.schedule", "cyclical", "constant"]
            break
    else:
        pytest.fail("the settings that differ are missing")
    assert "training.epochs" not in printed
    page = (out / "comparison.html").read_text(encoding="utf-8")
    assert "0.50 dB ahead" in page
    assert "data:image/png;base64," in page
    assert "http" not in page.replace("http-equiv", "")
    told = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert told["pairs"][0]["psnr"]["mean"] == -0.5
    assert sorted(file.name for file in out.iterdir()) == [
        "comparison.html",
        "comparison.json",
        "comparison.png",
    ]


def test_what_cannot_be_compared_is_refused(copies, tmp_path, capsys) -> None:
    a, b, out = copies / "a", copies / "b", tmp_path / "page"

    def refused(*folders: Path, **options: str) -> str:
        more = [word for key, value in options.items() for word in (f"--{key}", value)]
        assert main(["compare", *map(str, folders), "--out", str(out), *more]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert not out.exists()
        return error

    assert "no run was given" in refused()
    assert "only one run was given" in refused(a)
    assert "given twice" in refused(a, b, a)
    assert "no such run folder" in refused(a, copies / "nothing")
    assert "not the folder of a run" in refused(a, copies)
    told = refused(a, b, protocol="course")
    assert f"run labkit evaluate {a} --protocol course" in told
    (b / "model.safetensors").write_bytes(b"other weights")
    assert "weights have changed since it was evaluated" in refused(a, b)
    (b / "evaluation.npz").write_bytes(b"half")
    assert f"run labkit evaluate {b}" in refused(a, b)
    (b / "evaluation.json").unlink()
    told = refused(a, b)
    assert "was not evaluated" in told
    assert f"run labkit evaluate {b}" in told


def test_runs_evaluated_on_other_clips_are_refused(copies, tmp_path, capsys) -> None:
    config = json.loads((copies / "b" / "config.json").read_text())
    simulate_pack(tmp_path / "others", 9, {"test": 2}, workers=0, progress=False)
    config["data"]["root"] = str(tmp_path / "others")
    (copies / "b" / "config.json").write_text(json.dumps(config))
    evaluate_run(copies / "b", lpips=(), samples=1, progress=False, views=False)
    assert main(["compare", str(copies / "a"), str(copies / "b")]) == 2
    error = capsys.readouterr().err
    assert "3 first windows of the test split of simulated" in error
    assert "2 first windows of the test split of others" in error


def test_arms_are_paired_seed_by_seed(runs) -> None:
    """By hand: the difference of each seed, and the same over seeds and clips."""
    one = read_evaluated_run(runs / "a")

    def with_seed(seed: int, plus: float):
        config = dataclasses.replace(one.config, seed=seed)
        psnr = {k: v + plus if k == "prediction" else v for k, v in one.evaluation.psnr.items()}
        scores = {**one.evaluation.scores, "psnr": psnr}
        found = dataclasses.replace(one.evaluation, scores=scores)
        return dataclasses.replace(one, config=config, evaluation=found)

    x = [with_seed(1, 0.0), with_seed(2, 1.0), with_seed(3, 9.0)]
    y = [with_seed(2, 0.5), with_seed(1, 0.1)]
    (pair,) = compared({"x": x, "y": y}).pairs
    found = pair.differences["psnr"]
    assert (found.seeds, found.clips) == (2, 3)
    # seed 1: 0 - 0.1, seed 2: 1 - 0.5; seed 3 has no partner
    assert float(found.interval.value) == pytest.approx(0.2, abs=1e-4)
    by_hand = estimate(np.array([[-0.1] * 3, [0.5] * 3]), Resamples(np.arange(3)))
    assert float(found.interval.low) == pytest.approx(float(by_hand.interval.low), abs=1e-3)
    assert compared({"x": x, "y": [with_seed(4, 0.0)]}).pairs == []


def test_the_words_follow_from_the_figures(runs) -> None:
    one = read_evaluated_run(runs / "a")
    random = np.random.default_rng(0)
    noise = random.normal(0, 1, (40, 1))

    def arm(plus: float, gain: float) -> list:
        made = []
        for seed in (1, 2, 3):
            base = 20 + noise + random.normal(0, 0.05, (40, 10))
            psnr = {
                "prediction": base + plus + random.normal(0, 0.02),
                "repeat_last": base,
                "prior_mean": base,
                "posterior": base + gain,
            }
            found = dataclasses.replace(
                one.evaluation,
                scores={"psnr": psnr, "channel_psnr": psnr, "ssim": psnr},
                clip_ids=np.array([str(n) for n in range(40)]),
                clip_numbers=np.arange(40),
                starts=np.zeros(40, int),
                regions=None,
                samples_psnr=base[:, :2],
                deviation=np.full((40, 10), 2.0),
            )
            config: Config = dataclasses.replace(one.config, seed=seed)
            made.append(dataclasses.replace(one, config=config, evaluation=found))
        return made

    comparison: Comparison = compared({"good": arm(1.0, 0.5), "same": arm(1.0, 0.0)})
    told = " ".join(answer(comparison))
    assert "not significant over 3 seeds x 40 clips" in told
    assert "Below 0.1 dB the posterior has collapsed: same." in told
    comparison = compared({"bad": arm(0.0, 0.0), "good": arm(1.0, 0.0)})
    told = answer(comparison)
    assert told[0].startswith("good is ")
    assert "dB better than bad" in told[0]
    assert "is significant" in told[0]
    assert "in every arm: the posterior has collapsed" in told[-1]
    comparison = compared({"bad": arm(0.0, 0.5), "good": arm(1.0, 0.5)})
    assert "the latent is in use" in answer(comparison)[-1]
    mixed = [*arm(1.0, 0.5)[:2], arm(1.0, 0.0)[2]]  # the third training has collapsed
    said = answer(compared({"good": arm(1.0, 0.5), "mixed": mixed}))[-1]
    assert said.endswith("collapsed: mixed 1 of 3.")
    assert "in use" not in said


def test_runs_with_different_conditions_share_the_rest_of_the_sentence(runs) -> None:
    one = read_evaluated_run(runs / "a")
    condition = "condition action+position of the frame before, measured positions"
    assert condition in one.evaluation.protocol
    for other in ("condition action of the frame before", "no condition (action-free)"):
        said = one.evaluation.protocol.replace(
            "condition action+position of the frame before", other
        )
        found = dataclasses.replace(one.evaluation, protocol=said)
        both = {"a": [one], "b": [dataclasses.replace(one, evaluation=found)]}
        told = protocol_of(compared(both))
        assert "each with its own condition; 3 first windows of the test split" in told
        assert "PSNR per frame over all pixels" in told
    assert protocol_of(compared({"a": [one], "b": [one]})) == one.evaluation.protocol


def test_runs_are_called_by_what_tells_them_apart() -> None:
    folders = [Path("x/none/seed_1"), Path("x/none/seed_2"), Path("x/cyclical/seed_1")]
    assert list(names_of(folders)) == ["none/seed_1", "none/seed_2", "cyclical/seed_1"]
    assert list(names_of([Path("runs/a"), Path("runs/b")])) == ["a", "b"]
