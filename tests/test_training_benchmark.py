"""The benchmarks of training: both ways compute the same, and what is told is what was measured."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from labkit.model import VideoCVAE
from labkit.model.output import PaintedOutput
from labkit.presets import preset
from labkit.training.objective import negative_elbo

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Iterator[dict[str, ModuleType]]:
    """The scripts, imported as `python benchmarks/training.py` would find their parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        found = {}
        for name in ("loading", "training", "time_to_quality"):
            spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
            found[name] = importlib.util.module_from_spec(spec)
            patch.setitem(sys.modules, name, found[name])
            spec.loader.exec_module(found[name])
        yield found


def small_course(**changes: object):
    """The course's config with a few channels."""
    config = preset("course")
    sizes = {"width": 4, "encoding_size": 8, "hidden_size": 8, "latent_size": 3}
    model = dataclasses.replace(config.model, **{**sizes, **changes})
    return dataclasses.replace(config, model=model)


# -------------------------------------------------------------------------- the course's way


@pytest.mark.parametrize("forced", [True, False])
@pytest.mark.parametrize(
    ("changes", "training"),
    [
        ({"norm": "group", "predictor_norm": "none"}, True),
        ({"norm": "batch"}, False),  # batch norm: with its running statistics
        ({"norm": "group", "predictor_norm": "none", "backbone": "dcgan64"}, True),
    ],
)
def test_the_course_way_gives_the_same_loss_and_gradients(
    forced: bool, changes: dict[str, str], training: bool, monkeypatch
) -> None:
    """In double precision, where the order of sums makes no difference to speak of; the output
    would otherwise be turned into floats."""
    from training_parts.course import course_loss

    monkeypatch.setattr(PaintedOutput, "forward", lambda self, maps, *rest: maps.sigmoid())

    config = small_course(**changes)
    torch.manual_seed(0)
    model = VideoCVAE(config.model, 7).double().train(training)
    frames = torch.rand(2, 5, 3, 64, 64, dtype=torch.float64)
    condition = torch.randn(2, 5, 7, dtype=torch.float64)
    noise = torch.randn(2, 4, 3, dtype=torch.float64)
    told = []
    for way in (
        lambda: course_loss(
            model, frames, condition, 2, teacher_forced=forced, kl_weight=0.3, noise=noise
        ),
        lambda: negative_elbo(
            model.rollout(frames, condition, 2, teacher_forced=forced, noise=noise),
            frames[:, 1:],
            0.3,
        ),
    ):
        model.zero_grad()
        objective = way()
        objective.loss.backward()
        told.append([*vars(objective).values(), *(p.grad for p in model.parameters())])
    for theirs, ours in zip(*told, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-9)


def test_the_course_way_refuses_a_model_of_another_kind() -> None:
    from training_parts.course import check_kind

    check_kind(VideoCVAE(small_course().model, 7))
    with pytest.raises(ValueError, match=r"predictor.*output"):
        check_kind(VideoCVAE(preset("smoke").model, 7))


def test_operations_counted_from_shapes_are_those_of_the_step(monkeypatch) -> None:
    """By hand, with values, in our way; and the course's way takes more of them."""
    from training_parts.operations import step_operations

    config = small_course(norm="group", predictor_norm="none")
    model = VideoCVAE(config.model, 7)
    frames, condition = torch.rand(3, 12, 3, 64, 64), torch.rand(3, 12, 7)
    # Without oneDNN an LSTM is made of matrix products, which are counted.
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    with FlopCounterMode(display=False) as counter:
        rollout = model.rollout(frames, condition, 2, teacher_forced=True)
        negative_elbo(rollout, frames[:, 1:], 1.0).loss.backward()
    ours = step_operations(config, 3, True, course_way=False)
    assert ours == counter.get_total_flops() > 1e8
    theirs = step_operations(config, 3, True, course_way=True)
    assert 1.3 < theirs / ours < 2.0
    assert step_operations(config, 6, True, course_way=False) == 2 * ours


def test_the_rate_is_that_of_a_matrix_product() -> None:
    from training_parts.operations import arithmetic_rate

    assert 1e8 < arithmetic_rate(torch.device("cpu"), bf16=False, repeats=1) < 1e15


# -------------------------------------------------------------------------- training.py


@pytest.fixture(scope="module")
def compared(scripts, tmp_path_factory):
    """A whole run of training.py on a few channels and clips, in this process; operations and
    rate, which take their time, have tests of their own."""
    from training_parts import measuring

    training = scripts["training"]
    options = training.Options(quick=True, batch=2, clips=3, steps=1, threads=1, device="cpu")

    def here(work: Callable) -> object:
        return work()

    folder = tmp_path_factory.mktemp("training")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "SIZES", (2, 5))
        patch.setattr(training, "operations", lambda job: 1e9)
        patch.setattr(measuring, "arithmetic_rate", lambda device, bf16: 1e11)
        yield training, *training.compare(options, folder, here)


def test_every_way_is_measured_and_has_a_row(compared) -> None:
    training, found, sizes = compared
    assert [(row.name, row.job.teacher_forced, row.job.course_way) for row, _ in found] == [
        (name, forced, name == "course, the course's way")
        for forced in (True, False)
        for name in ("course, the course's way", "course, ours", "demo, ours")
    ]
    for _, one in found + sizes:
        assert min(one.seconds, one.peak, one.operations, one.rate) > 0
    lines = list(training.report(found, sizes))
    table = [line for line in lines if line.startswith("| ")]
    assert len(table) == 2 + len(found)
    assert len({line.count("|") for line in table}) == 1
    assert sum("| 1 |" in line for line in table) >= 2  # the course's way is 1 x itself
    assert "nan" not in "\n".join(lines)
    assert "fp32, plain Adam" in lines[1]


def test_findings_stand_beside_their_aims(compared, tmp_path: Path) -> None:
    training, found, sizes = compared
    from training_parts.summary import keep, table

    told = list(training.findings(found, sizes))
    assert [aim for _, _, aim in told] == ["1.4 x", "30 x", "1.4 x", "30 x", "1 x"]
    one = found[1][1]
    assert told[0][0].startswith("course, ours, teacher forced, batch 2")
    assert told[0][1] == f"{one.clips / found[0][1].clips:.3g} x"
    keep("training", "python benchmarks/training.py", told, tmp_path)
    lines = list(table(tmp_path))
    assert len(lines) == 2 + len(told)
    assert lines[2].endswith("| 1.4 x | `python benchmarks/training.py` |")


def test_a_gpu_also_tells_of_larger_batches_and_of_the_whole_schedule(scripts, compared) -> None:
    """Its table, made of invented figures."""
    training = scripts["training"]
    from training_parts.measuring import Figures

    options = training.Options(device="cuda", batches=(48, 768))
    rows = training.rows_of(options, Path("data"))
    assert [row.job.config.training.batch_size for row in rows[:4]] == [12, 12, 48, 768]
    figures = [
        None
        if batch == 768
        else Figures(batch, 1.0 if row.job.course_way else 0.01, 1.0, 4e9, 1e12, "so")
        for row in rows
        for batch in [row.job.config.training.batch_size]
    ]
    found = list(zip(rows, figures, strict=True))
    told = {what: (figure, aim) for what, figure, aim in training.findings(found, [])}
    assert told["course, ours, free-running, batch 48: clips/s, the course's way = 1"] == (
        "400 x",
        "20 x at the batch that fills the chip",
    )
    assert told["course, ours, free-running, batch 48: share of the rate"] == ("40 %", "35 %")
    whole = told["the whole schedule of 300 x 600 updates, but for judging"]
    assert whole == ("30 min", "30 min")


def test_the_whole_schedule_weighs_both_ways_of_feeding(scripts) -> None:
    """Teacher forcing falls from 1 to 0 over the first 100 of 300 epochs: a share of 0.168."""
    seconds = {True: 1.0, False: 0.0}
    assert scripts["training"].whole(seconds) == f"{180_000 * 50.5 / 300 / 60:,.0f} min"


# -------------------------------------------------------------------------- time_to_quality.py


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_clock_stands_still_while_a_model_is_judged(monkeypatch) -> None:
    from training_parts import curves

    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)

    def slow_psnr(model: torch.nn.Module, *_: object, **__: object) -> float:
        assert not model.training
        clock.now += 1000
        return 20.0 + clock.now / 1e6

    monkeypatch.setattr(curves, "validation_psnr", slow_psnr)
    judge = curves.Judge(None, clips=4, seconds=17, seed=1)
    judge.start()
    model = torch.nn.Linear(1, 1)
    for update in range(1, 8):
        clock.now += 3
        judge.look(model, torch.device("cpu"), update)
        assert model.training
    # due after 5, 10, 15 and 17 s; updates end after 3, 6, 9 ... s, the last ones past the end
    assert judge.curve.seconds == [6, 12, 15, 18]
    assert judge.curve.updates == [2, 4, 5, 6]
    assert judge.is_over


def test_a_curve_tells_when_a_psnr_was_reached_and_what_was_due_when() -> None:
    from training_parts.curves import Curve

    curve = Curve([5.5, 10.2, 31.0], [18.0, 21.0, 20.0], [1, 2, 3])
    assert curve.best == 21.0
    assert curve.first(18.5) == 10.2
    assert math.isnan(curve.first(22.0))
    assert [curve.at(s) for s in (5, 10, 20)] == [18.0, 21.0, 20.0]
    assert math.isnan(curve.at(40))


@pytest.fixture(scope="module")
def followed(scripts, tmp_path_factory):
    """time_to_quality.py for a second, on a few clips."""
    script = scripts["time_to_quality"]
    folder = tmp_path_factory.mktemp("quality")
    options = script.Options(
        quick=True,
        minutes=1 / 60,
        clips=2,
        data=folder / "clips",
        out=folder,
        threads=1,
        device="cpu",
    )
    script.simulate_pack(options.data, 1, {"train": 3, "validate": 2}, 0, False)
    return script, script.follow(options)


def test_both_recipes_are_followed_to_their_end(followed) -> None:
    script, curves = followed
    assert list(curves) == [script.COURSE, script.OURS, script.SHORT]
    for curve in curves.values():
        assert curve.updates[-1] >= 1
        assert all(5 < psnr < 40 for psnr in curve.psnr)
    assert curves[script.COURSE].seconds[-1] >= 1.0  # the time is up
    lines = list(script.report(curves, 1.0))
    assert lines[2].startswith("| 1 s, or at its end | ")


def test_the_recipes_are_those_that_the_aims_speak_of(scripts) -> None:
    course, ours = scripts["time_to_quality"].recipes(scripts["time_to_quality"].Options())
    assert dataclasses.replace(course.model, width=64) == preset("course").model
    assert (course.model.width, course.training.batch_size) == (32, 12)
    assert course.training.learning_rate_schedule == "constant"
    assert ours == preset("demo")


def test_the_report_says_how_much_sooner_and_how_far_ahead(scripts) -> None:
    script = scripts["time_to_quality"]
    from training_parts.curves import Curve
    from training_parts.picture import curves_png

    curves = {
        script.COURSE: Curve([63.0, 602.0, 1203.0], [15.0, 20.0, 19.0], [10, 100, 200]),
        script.OURS: Curve([60.1, 600.1, 1140.0], [19.0, 23.0, 24.5], [100, 1000, 2000]),
        script.SHORT: Curve([30.1, 57.0], [18.0, 20.5], [50, 100]),
    }
    told = list(script.findings(curves, 1200.0))
    assert [(found, aim) for _, found, aim in told] == [
        ("after 10 min, 1 x sooner", "under 1 min"),
        ("after 57 s, 10.6 x sooner", "under 1 min"),
        ("+5.50 dB", "+4 dB"),
    ]
    assert "20.00 dB after 10 min" in told[0][0]
    lines = "\n".join(script.report(curves, 1200.0))
    assert "| 1 min | 15.00 | 19.00 | - | 4.00 |" in lines
    assert "| 20 min, or at its end | 19.00 | 24.50 | 20.50 | 5.50 |" in lines
    never = {**curves, script.SHORT: Curve([57.0], [12.0], [9])}
    assert list(script.findings(never, 60.0))[1][1:] == ("not reached; 12.00 dB at most", "")
    png = curves_png(curves, script.COURSE, "two clips")
    assert png.startswith(b"\x89PNG")


def test_updates_are_planned_for_the_time(monkeypatch) -> None:
    """The first of the 20 epochs of `layer` is teacher forced. The demo's are not; for each of its
    960 updates the arm's picture alone has 3,200 / 960, and those take time as well."""
    from training_parts import recipes

    spent = {True: 0.1, False: 0.3}
    monkeypatch.setattr(recipes, "step_seconds", lambda config, forced, device: spent[forced])
    monkeypatch.setattr(recipes, "beforehand_seconds", lambda config, device: (7.0, 0.02))
    planned = recipes.stretched(preset("layer"), 150.0, torch.device("cpu")).training
    mean = (1 * 0.1 + 19 * 0.3) / 20
    assert (planned.epochs, planned.updates_per_epoch) == (20, int((142.5 - 7) / mean / 20))
    assert (planned.validate_every, planned.arm_updates) == (20, 0)
    planned = recipes.stretched(preset("demo"), 150.0, torch.device("cpu")).training
    each = 0.3 + 3200 / 960 * 0.02
    assert planned.updates_per_epoch == int((142.5 - 7) / each / 20) == 18
    assert planned.arm_updates == 1200
