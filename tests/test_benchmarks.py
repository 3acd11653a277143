"""The benchmarks: their parts run, and what they compare is comparable."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import math
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from labkit.data.dataset import ClipDataset
from labkit.data.simulator import simulate_pack
from labkit.data.simulator.physics import run
from labkit.data.simulator.world import SimulatedWorld
from labkit.presets import SMOKE, preset
from labkit.training.run import train

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def loading() -> ModuleType:
    """The script, imported as `python benchmarks/loading.py` would find its parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        spec = importlib.util.spec_from_file_location("loading", FOLDER / "loading.py")
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "loading", module)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def data(loading, tmp_path_factory) -> Path:
    """Three distinct clips, as data sets of three and of five."""
    folder = tmp_path_factory.mktemp("sizes")
    loading.make_sizes(folder, loading.simulated_clips(3), (3, 5))
    return folder


def test_every_way_loads_the_same_clips(data: Path) -> None:
    """Else the comparison would not be fair."""
    from loading_parts.ways import PictureDataset, SeedReportDataset

    pack = ClipDataset(data / "5" / "pack", "train", windows="first")
    assert len(pack) == 5
    ours = pack.batch(range(5)).to("cpu")
    folders = ClipDataset(data / "5" / "folders", "train", windows="first", source="folders")
    root = data / "5" / "folders" / "train"
    for dataset in (SeedReportDataset(root), PictureDataset(root)):
        assert len(dataset) == 5
        for number, (frames, condition) in enumerate(dataset):
            assert torch.equal(frames, ours.frames[number])
            assert torch.equal(condition, ours.condition[number])
    assert torch.equal(folders.batch(range(5)).to("cpu").frames, ours.frames)
    assert torch.equal(ours.frames[0], ours.frames[3])  # the clips repeat ...
    assert not torch.equal(ours.frames[0], ours.frames[1])  # ... but three are distinct


def test_a_whole_run_prints_a_row_for_each_way_and_size(loading, tmp_path: Path) -> None:
    plan = loading.Plan(
        distinct=2,
        sizes=(2, 4),
        seed_sizes=(2, 3, 4),
        compared=4,
        repeats=1,
        slow_clips=4,
        fast_clips=24,
        full_size=30,
    )
    started = []

    def here(work: Callable, start: str) -> object:
        started.append(start)
        return work()

    found, full = loading.compare(plan, tmp_path, here)
    assert started[-1] == "spawn"
    assert set(found) == {("seed", n) for n in (2, 3, 4)} | {
        (way, n) for way in ("png", "folders", "pack") for n in (2, 4)
    }
    for one in found.values():
        assert all(value > 0 for value in (one.reading, one.as_floats, one.peak))
    assert full.clips == 30
    assert not math.isnan(full.reading)
    lines = list(loading.report(plan, found, full))
    for title in loading.TITLES.values():
        assert sum(line.startswith(f"| {title} |") for line in lines) in (3, 4)
    assert "| one clip at a time from PNG | " in "\n".join(lines)
    assert any("30 clips x 30 frames" in line for line in lines)
    assert not any("nan" in line for line in lines)


def test_the_pack_made_of_holes_is_as_long_as_it_says_and_takes_no_disk(loading, tmp_path) -> None:
    (clip,) = loading.simulated_clips(1)
    loading.make_full_size(tmp_path / "full", clip, 2000)
    dataset = ClipDataset(tmp_path / "full", "train")
    assert (dataset.n_clips, len(dataset)) == (2000, 2000 * 19)
    frames = tmp_path / "full" / "train" / "frames.bin"
    assert frames.stat().st_size == 2000 * 30 * 3 * 64 * 64
    if hasattr(frames.stat(), "st_blocks"):
        assert frames.stat().st_blocks * 512 < 50e6
    first, last = dataset[0], dataset[len(dataset) - 1]
    assert torch.equal(first[0], torch.from_numpy(clip.frames[:12]))
    assert not last[0].any()


def resident_files() -> float:
    """MiB of mapped files that are in this process's memory."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssFile:")[1].split()[0]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="asks Linux")
def test_reading_a_pack_leaves_nothing_of_its_file_in_memory(loading, tmp_path: Path) -> None:
    """What keeps memory flat on a pack of any size: 140 MiB are read, in batches."""
    (clip,) = loading.simulated_clips(1)
    loading.make_full_size(tmp_path / "full", clip, 400)
    dataset = ClipDataset(tmp_path / "full", "train", n_future=28)
    dataset.batch([0])
    before = resident_files()
    for first in range(0, 400, 20):
        dataset.batch(range(first, first + 20))
    assert resident_files() - before < 20


def test_options_make_plans(loading) -> None:
    for plan in (loading.Plan(), loading.QUICK):
        assert plan.compared in plan.sizes
        assert plan.compared in plan.seed_sizes
        assert plan.full_size == 43_264


def test_the_costs_of_a_variant_are_measured() -> None:
    """benchmarks/variants.py: a small model's figures are there, and count what they name."""
    script = runpy.run_path(str(FOLDER / "variants.py"))
    options = script["Options"](batch=2, repeats=1, threads=1)
    small, large = (
        script["measured"](
            dataclasses.replace(SMOKE, model=dataclasses.replace(SMOKE.model, width=width)), options
        )
        for width in (4, 8)
    )
    assert 0 < small.parameters < large.parameters
    assert 0 < small.multiply_adds < large.multiply_adds
    assert min(small.step, small.frames) > 0


def test_every_variant_of_the_tables_is_a_valid_config() -> None:
    """benchmarks/studies/equal_time.py and variants.py name fields that exist."""
    study = runpy.run_path(str(FOLDER / "studies" / "equal_time.py"))
    for table in study["TABLES"].values():
        for base, changes in table.values():
            assert study["changed"](preset(base), changes).model
    for base, changes in runpy.run_path(str(FOLDER / "variants.py"))["VARIANTS"].values():
        assert dataclasses.replace(preset(base).model, **changes)


def test_the_cost_of_the_demo_counts_forced_and_free_updates(monkeypatch, capsys) -> None:
    """benchmarks/studies/demo_cost.py: `layer` is teacher forced in the first of 20 epochs, the
    demo in none. With 1 s for a forced update and 3 s for a free one, the mean is 2.9 s. What the
    demo trains beforehand leaves less for its updates."""
    study = runpy.run_path(str(FOLDER / "studies" / "demo_cost.py"))
    assert study["forced_share"](preset("layer")) == pytest.approx(1 / 20)
    assert study["forced_share"](preset("demo")) == 0
    monkeypatch.setattr(study["Updates"], "update", lambda self, forced: 1.0 if forced else 3.0)
    # The clock steps by 100 s at each look: a setup takes that long.
    clock = SimpleNamespace(process_time=itertools.count(0, 100).__next__)
    monkeypatch.setitem(study["main"].__globals__, "time", clock)
    monkeypatch.setattr("labkit.training.setup.train_arm", lambda *_, **__: None)
    study["main"](study["Options"](updates=2, clips=8))
    said = capsys.readouterr().out
    assert "layer: 100 CPU seconds beforehand, 2.900 per update, 800 updates: 2420" in said
    assert "demo: 100 CPU seconds beforehand, 3.000 per update, 960 updates: 2980" in said
    assert "as long as `layer`: 773 updates of the demo" in said


def test_another_future_differs_by_the_hidden_physics_alone() -> None:
    """benchmarks/studies/open_physics.py: with the clip's own masses and frictions it is the clip,
    and up to the last context frame it is that in any case."""
    study = runpy.run_path(str(FOLDER / "studies" / "open_physics.py"))
    another_future, n_past = study["another_future"], study["N_PAST"]
    differ = 0
    for index in range(6):
        world = SimulatedWorld(1, index)
        actual = study["first_frames"](run(world.scene, world.control(), 30))
        own = world.scene.things
        another_future.__globals__["hidden_physics"] = lambda rng, count, own=own: list(own)
        same = another_future(world, actual, np.random.default_rng(0))
        np.testing.assert_allclose(same.poses, actual.poses, atol=1e-12)
        another_future.__globals__["hidden_physics"] = study["hidden_physics"]
        other = another_future(world, actual, np.random.default_rng(0))
        np.testing.assert_allclose(other.poses[:n_past], actual.poses[:n_past], atol=1e-12)
        differ += not np.allclose(other.poses[n_past:], actual.poses[n_past:], atol=1e-3)
    assert differ


def test_pushed_objects_are_counted(tmp_path: Path, capsys) -> None:
    """benchmarks/studies/pushed_objects.py: the true last frame has an object in its new place and
    not in the old one, the last context frame the other way round. Of a model that was not
    trained, the gate that knows the true frames is better than one that is shut."""
    data = tmp_path / "data"
    simulate_pack(data, 3, {"train": 4, "validate": 1, "test": 12}, workers=0, progress=False)
    study = runpy.run_path(str(FOLDER / "studies" / "pushed_objects.py"))
    clips = ClipDataset(data, "test", windows="first")
    found = study["pushed_clips"](clips, 100)
    assert 0 < len(found) < 12
    for clip in found:
        assert clip.new.any()
        assert clip.old.any()
        assert not (clip.new & clip.old).any()
        for where in (clip.new, clip.old):
            assert study["nearer_to_truth"](clip.after, clip, where)
            assert not study["nearer_to_truth"](clip.before, clip, where)
    demo = preset("demo")
    config = dataclasses.replace(
        demo,
        data=dataclasses.replace(demo.data, root=data.as_posix()),
        model=dataclasses.replace(
            demo.model, scene=dataclasses.replace(demo.model.scene, pusher=True)
        ),
        training=dataclasses.replace(
            demo.training,
            epochs=1,
            updates_per_epoch=1,
            batch_size=2,
            arm_updates=20,
            precision="fp32",
        ),
    )
    train(config, tmp_path / "run", progress=False)
    study["main"](study["Options"](tmp_path / "run", data, judged=12, picture=tmp_path / "p.png"))
    said = capsys.readouterr().out.splitlines()
    rows = {line.split(" | ")[0]: line.strip(" |").split(" | ") for line in said}
    assert float(rows["| knows the true frames"][1]) > float(rows["| shut"][1])
    assert f"Of {min(len(found), 16)} clips with a pushed object:" in "\n".join(said)
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_the_pilot_is_driven(capsys) -> None:
    main = runpy.run_path(str(FOLDER / "pilot.py"))["main"]
    main.__globals__.update(PRESSES=3, THREADS=1)
    main()
    assert "a press: " in capsys.readouterr().out


@pytest.fixture(scope="module")
def gpu_check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_check", FOLDER / "gpu_check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_gpu_check_names_what_is_missing(gpu_check, monkeypatch, capsys) -> None:
    assert gpu_check.missing() == []
    version = gpu_check.metadata.version

    def elsewhere(name: str) -> str:
        if name == "tyro":
            raise gpu_check.metadata.PackageNotFoundError
        return "0.1" if name == "pymunk" else version(name)

    monkeypatch.setattr(gpu_check.metadata, "version", elsewhere)
    assert [each.split(">")[0] for each in gpu_check.missing()] == ["pymunk", "tyro"]
    assert gpu_check.main() == 2
    said = capsys.readouterr().err
    assert "python -m pip install 'pymunk" in said
    assert "python -m pip download --dest wheels 'pymunk" in said


def test_a_part_of_the_gpu_check_that_takes_too_long_is_ended(gpu_check, tmp_path) -> None:
    """With the processes that it started."""
    late = tmp_path / "late"
    grandchild = f"import time, pathlib; time.sleep(2); pathlib.Path({str(late)!r}).touch()"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    outcome, seconds = gpu_check.ended([sys.executable, "-c", child], 0.5)
    assert outcome == "not done after 0.5 s"
    assert seconds < 2
    time.sleep(2.5)
    assert not late.exists()
    assert gpu_check.ended([sys.executable, "-c", "raise SystemExit(3)"], 60)[0] == "exit code 3"


def test_a_skipped_gpu_test_has_not_passed(gpu_check, tmp_path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        "<testsuites><testsuite><testcase name='a' time='0.5'/><testcase name='b' time='1'>"
        "<skipped/></testcase><testcase name='c' time='2'><failure/></testcase></testsuite>"
        "</testsuites>"
    )
    assert gpu_check.rows_of(report) == [
        ("a", "passed", 0.5),
        ("b", "skipped", 1),
        ("c", "failure", 2),
    ]
