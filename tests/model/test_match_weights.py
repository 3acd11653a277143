"""The settings of an old model: read from its weights, found by its recorded outputs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from public_model import HIDDEN, HORIZON, N_PAST, G, Reference, Z
from torch import Tensor

from labkit.config import ModelConfig
from labkit.errors import RunError
from labkit.model.match_weights import (
    Choices,
    agreements,
    as_near,
    build,
    combinations,
    config_of,
    read_recorded,
)
from labkit.presets import COURSE, SVG

SIZES = {"encoding_size": G, "latent_size": Z, "hidden_size": HIDDEN, "backbone": "dcgan64"}
MODELS = {
    "course": (dataclasses.replace(COURSE.model, **SIZES), 7),
    "actions alone": (dataclasses.replace(COURSE.model, **SIZES), 4),
    "course, vgg64": (dataclasses.replace(COURSE.model, **{**SIZES, "backbone": "vgg64"}), 7),
    "course, prior sees h alone": (
        dataclasses.replace(COURSE.model, prior="learned", prior_condition=False, **SIZES),
        7,
    ),
    "svg": (dataclasses.replace(SVG.model, **SIZES), 0),
    "svg, fixed prior": (dataclasses.replace(SVG.model, **{**SIZES, "prior": "fixed"}), 0),
}
UNTIL = {"previous": 99, "last_context": N_PAST, "svg": N_PAST - 1}


@pytest.mark.parametrize("name", MODELS)
def test_sizes_and_kinds_are_read_from_the_weights(name) -> None:
    config, columns = MODELS[name]
    found, found_columns = config_of(Reference(config, columns).states())
    assert found_columns == columns
    assert Choices().applied(found) == Choices().applied(config)


def record(
    model: tuple[ModelConfig, int],
    folder: Path,
    choices: Choices,
    *,
    z_from: str = "prior",
    rounded: bool = False,
    with_noise: bool = True,
    clips: int = 2,
) -> tuple[dict, Path]:
    """The weights of an old model, and a file of what it predicts."""
    config, columns = model
    reference = Reference(config, columns).eval()
    reference.order = choices.order
    draw = torch.Generator().manual_seed(1)
    steps = N_PAST + HORIZON - 1
    frames = torch.rand(clips, steps + 1, 3, 64, 64, generator=draw)
    condition = torch.randn(clips, steps + 1, columns, generator=draw)
    noise = torch.randn(clips, steps, Z, generator=draw) * with_noise
    # The double reads c[i-1]; one that reads c[i] is given the rows one earlier.
    given = condition if choices.condition_at == "previous" else condition.roll(-1, 1)
    made = reference.run(
        frames,
        given,
        noise,
        skips_until=UNTIL[choices.skip],
        forced=False,
        from_posterior=z_from == "posterior",
    )[0][:, N_PAST - 1 :]

    def pictures(tensor: Tensor) -> np.ndarray:
        array = tensor.permute(0, 1, 3, 4, 2).numpy()
        return np.round(array * 255).astype(np.uint8) if rounded else array

    arrays = {"frames": frames.numpy(), "predicted": pictures(made)}
    if columns:
        arrays["condition"] = condition.numpy()
    if with_noise:
        arrays["noise"] = noise.numpy()
    np.savez(folder / "frames.npz", **arrays)
    return reference.states(), folder / "frames.npz"


CASES = [
    ("course", Choices("svg", "hcz", "previous"), {}),
    ("course", Choices("last_context", "chz", "previous"), {}),
    ("course", Choices("previous", "hzc", "target"), {}),
    ("actions alone", Choices("svg", "zch", "previous"), {"z_from": "posterior"}),
    ("course", Choices("svg", "chz", "previous"), {"rounded": True}),
    ("course", Choices("svg", "chz", "previous"), {"with_noise": False}),
    ("course, prior sees h alone", Choices("svg", "chz", "previous"), {}),
    ("svg", Choices("last_context", "hcz", "previous"), {}),
    ("svg", Choices("svg", "zhc", "previous"), {}),
]


@pytest.mark.parametrize(("name", "choices", "how"), CASES)
def test_recorded_outputs_find_the_choices(name, choices, how, tmp_path) -> None:
    states, file = record(MODELS[name], tmp_path, choices, **how)
    found = agreements(states, read_recorded(file), N_PAST, {})
    best = found[0]
    assert best.choices == choices
    assert best.error < (0.003 if how.get("rounded") else 1e-5)
    assert best.z_from == how.get("z_from", "prior")
    if not how.get("rounded"):
        assert len(as_near(found)) == 1
        assert found[1].error > 1e-4  # all others are other functions


def test_what_is_given_is_not_searched(tmp_path) -> None:
    states, file = record(MODELS["course"], tmp_path, Choices("svg", "chz", "previous"))
    found = agreements(states, read_recorded(file), N_PAST, {"order": "hcz"})
    assert {each.choices.order for each in found} == {"hcz"}
    assert found[0].error > 1e-3


def test_skips_of_the_same_frame_are_tried_once() -> None:
    config = MODELS["course"][0]
    skips = {each.skip for each in combinations(config, 7, {}, n_past=2)}
    assert skips == {"svg", "last_context", "previous"}  # svg is frame 0, as first is
    assert {each.skip for each in combinations(config, 7, {}, n_past=1)} == {"svg", "previous"}
    assert len({each.order for each in combinations(config, 7, {}, n_past=3)}) == 6
    without = list(combinations(config, 0, {}, n_past=3))
    assert {each.order for each in without} == {"hcz", "zhc"}
    assert {each.condition_at for each in without} == {"previous"}


def test_a_posterior_that_sees_the_condition_is_read(tmp_path) -> None:
    """Its columns are in the order of h and c that the frame predictor has."""
    states = Reference(*MODELS["course"]).states()
    states["posterior"]["embed.weight"] = torch.randn(HIDDEN, G + 7)
    config, _ = config_of(states)
    assert config.posterior_condition
    weight = states["posterior"]["embed.weight"]
    for order, expected in (
        ("hcz", weight),
        ("zch", torch.cat([weight[:, 7:], weight[:, :7]], dim=1)),
    ):
        model = build(states, Choices(order=order))
        assert torch.equal(model.posterior.embed.weight, expected)


# ------------------------------------------------------------------------------- refusals


def changed(part: str, name: str, value: Tensor | None) -> dict:
    states = Reference(*MODELS["svg"]).states()
    state = {n: v for n, v in states[part].items() if n != name}
    return {**states, part: state if value is None else {**state, name: value}}


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("posterior", "mu_net.weight", None, r"posterior\.mu_net\.weight is missing"),
        ("encoder", "c1.main.0.weight", None, r"encoder\.c1\.main\.0\.weight is missing"),
        ("encoder", "c1.main.0.weight", torch.rand(64, 1, 4, 4), "reads 1 channels; expected 3"),
        ("encoder", "c5.0.weight", torch.rand(G, 512), "expected 4 dimensions"),
        ("encoder", "c5.0.weight", torch.rand(G, 512, 1, 1), "no model of the lab has these sizes"),
        ("frame_predictor", "embed.weight", torch.rand(HIDDEN, G + Z + 3), "and 3 more"),
        ("posterior", "embed.weight", torch.rand(HIDDEN, G + 2), f"reads {G + 2} numbers"),
        ("posterior", "embed.weight", torch.rand(9, G), "9 hidden units, where .* has 24"),
        ("prior", "mu_net.weight", torch.rand(Z + 1, HIDDEN), "7 latents"),
    ],
)
def test_weights_without_a_counterpart_are_named(part, name, value, message) -> None:
    with pytest.raises(RunError, match=message):
        config_of(changed(part, name, value))


def test_a_missing_part_is_named() -> None:
    states = Reference(*MODELS["svg"]).states()
    del states["posterior"]
    with pytest.raises(RunError, match="there is no posterior; there are encoder, decoder"):
        config_of(states)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"frames": np.zeros((1, 2, 3, 4, 4))}, "has no array 'predicted'"),
        ({"predicted": np.zeros((1, 2, 3, 4, 4))}, "has no array 'frames'"),
        ({"frames": np.zeros((2, 4)), "predicted": np.zeros((1, 1, 3, 4, 4))}, r"frames are \(2,"),
        (
            {"frames": np.full((1, 2, 3, 4, 4), 7.0), "predicted": np.zeros((1, 1, 3, 4, 4))},
            "not within",
        ),
        (
            {"frames": np.full((1, 2, 3, 4, 4), np.nan), "predicted": np.zeros((1, 1, 3, 4, 4))},
            "other values than finite numbers",
        ),
        (
            {"frames": np.array([{}]), "predicted": np.zeros((1, 1, 3, 4, 4))},
            "no readable npz archive",
        ),
    ],
)
def test_recordings_that_are_none_are_named(arrays, message, tmp_path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(RunError, match=message):
        read_recorded(tmp_path / "a.npz")


def test_recordings_that_do_not_fit_are_named(tmp_path) -> None:
    states, file = record(MODELS["course"], tmp_path, Choices())
    recorded = read_recorded(file)
    for change, message in (
        ({"condition": recorded.condition[:, :, :4]}, r"condition has the shape \(2, 5, 4\)"),
        ({"noise": recorded.noise[:, :2]}, r"noise has the shape .*at least 4, 6"),
        (
            {
                "frames": recorded.frames[..., :32, :32],
                "predicted": recorded.predicted[..., :32, :32],
            },
            "frames has the shape",
        ),
    ):
        with pytest.raises(RunError, match=message):
            agreements(states, dataclasses.replace(recorded, **change), N_PAST, {})


def test_files_that_are_no_recordings_are_named(tmp_path) -> None:
    with pytest.raises(RunError, match="no such file"):
        read_recorded(tmp_path / "none.npz")
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(RunError, match="no readable npz archive"):
        read_recorded(tmp_path / "a.npz")


def test_damaged_recordings_are_refused_or_read_and_nothing_else(tmp_path) -> None:
    file, draw = tmp_path / "a.npz", np.random.default_rng(0)
    pictures = np.zeros((1, 2, 3, 4, 4), np.float32)
    np.savez_compressed(file, frames=pictures, predicted=pictures, condition=np.ones((1, 3, 7)))
    whole = file.read_bytes()
    for number in range(300):
        data = bytearray(whole)
        for _ in range(draw.integers(1, 4)):
            data[draw.integers(len(data))] = draw.integers(256)
        file.write_bytes(data[: draw.integers(len(data))] if number % 5 == 0 else data)
        try:
            read_recorded(file)
        except RunError:
            continue
