"""Finds the settings that another program's weights were made with.

Sizes, backbone and norms are read from the shapes. Three settings leave no trace in the weights:
which frame the skip features come from, in which order the frame predictor's inputs were joined,
and which condition belongs to a step. They are guessed, unless recorded outputs of the old model
show which of them agree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from labkit.config import CONDITION_SIZES, ModelConfig
from labkit.errors import ConfigError, RunError
from labkit.model.backbones import skip_frame
from labkit.model.import_weights import StateDict, load_reference
from labkit.model.memory import check_memory
from labkit.model.video_cvae import VideoCVAE

Skip = Literal["svg", "last_context", "previous", "first"]
SKIPS: tuple[Skip, ...] = ("svg", "last_context", "previous", "first")
LIKELY = ("hcz", "chz", "hzc")
"""Orders of the frame predictor's inputs in public implementations."""
TOLERANCE = 2e-3
"""Largest difference of a pixel in [0, 1] that can be rounding: a GPU's TF32 makes up to that."""
SEARCHED = 3
"""Predicted frames, of one clip, by which combinations are sorted out."""


@dataclass(frozen=True)
class Choices:
    """What weights do not show."""

    skip: Skip = "svg"
    """which frame's skip features the decoder gets (`ModelConfig.skip`)"""
    order: str = "hcz"
    """in which encoding h, condition c and latent z are joined for the frame predictor"""
    condition_at: Literal["previous", "target"] = "previous"
    """c_{t-1} or c_t for the step to x_t"""

    def applied(self, config: ModelConfig) -> ModelConfig:
        """The model's config with these choices."""
        return dataclasses.replace(config, skip=self.skip, condition_at=self.condition_at)


@dataclass(frozen=True)
class Recorded:
    """Inputs of an old model, and what it predicted from them."""

    frames: Float[Tensor, "B T 3 S S"]
    """x_0, x_1, ...: the context at least"""
    condition: Float[Tensor, "B T2 C"]
    predicted: Float[Tensor, "B horizon 3 S S"]
    """the frames after the context, free-running"""
    noise: Float[Tensor, "B N z"] | None
    """epsilon of each step's draw of z; None: the old model took the means"""
    tolerance: float = TOLERANCE

    def first(self) -> Recorded:
        """The first clip alone."""
        noise = None if self.noise is None else self.noise[:1]
        return Recorded(self.frames[:1], self.condition[:1], self.predicted[:1], noise)


@dataclass(frozen=True)
class Agreement:
    """How far a combination of choices is from the recorded outputs."""

    choices: Choices
    z_from: Literal["prior", "posterior"]
    """what the old model drew z from after the context"""
    error: float
    """largest difference of a pixel, in [0, 1]"""


def config_of(parts: Mapping[str, StateDict]) -> tuple[ModelConfig, int]:
    """The model that the weights are of, but for `Choices`, and its number of condition columns.

    Raises:
        RunError: a part or a tensor that tells a size is missing, sizes contradict one another, or
            the model has no counterpart here; the message names it.
    """
    for part in ("encoder", "decoder", "frame_predictor", "posterior"):
        if part not in parts:
            raise RunError(
                f"there is no {part}; there are {', '.join(parts)}",
                hint="save the state dicts of encoder, decoder, frame_predictor and posterior "
                "together, and of prior where it is learned",
            )
    vgg = "c1.0.main.0.weight" in parts["encoder"]
    first = _shape(parts, "encoder", "c1.0.main.0.weight" if vgg else "c1.main.0.weight", 4)
    if first[1] != 3:
        raise RunError(f"the encoder reads {first[1]} channels; expected 3: red, green, blue")
    last = _shape(parts, "encoder", "c5.0.weight", 4)
    predictor = _shape(parts, "frame_predictor", "embed.weight", 2)
    posterior = _shape(parts, "posterior", "embed.weight", 2)
    g, z, hidden = last[0], _shape(parts, "posterior", "mu_net.weight", 2)[0], predictor[0]
    columns = predictor[1] - g - z
    if columns not in CONDITION_SIZES.values():
        raise RunError(
            f"the frame predictor reads {predictor[1]} numbers: an encoding of {g}, a latent of "
            f"{z}, and {columns} more",
            hint="the lab's condition has 0, 4 (action) or 7 columns (action and position)",
        )
    settings: dict[str, Any] = {
        "backbone": "vgg64" if vgg else "dcgan64",
        "width": first[0],
        "frame_size": 16 * last[-1],
        "encoding_size": g,
        "latent_size": z,
        "hidden_size": hidden,
        "predictor_layers": _layers(parts["frame_predictor"]),
        "posterior_layers": _layers(parts["posterior"]),
        "predictor_norm": "batch" if "output.1.weight" in parts["frame_predictor"] else "none",
        "posterior_condition": _sees_condition("posterior", posterior[1], g, columns),
    }
    _same("posterior", "hidden units", posterior[0], hidden)
    if "prior" in parts:
        prior = _shape(parts, "prior", "embed.weight", 2)
        _same("prior", "hidden units", prior[0], hidden)
        _same("prior", "latents", _shape(parts, "prior", "mu_net.weight", 2)[0], z)
        _same("prior", "layers", _layers(parts["prior"]), settings["posterior_layers"])
        settings["prior"] = "learned"
        settings["prior_condition"] = _sees_condition("prior", prior[1], g, columns) or not columns
    try:
        return ModelConfig(**settings), columns
    except ConfigError as error:
        raise RunError(f"no model of the lab has these sizes: {error}") from None


def build(parts: Mapping[str, StateDict], choices: Choices) -> VideoCVAE:
    """The model with the weights, in evaluation mode.

    Raises:
        RunError: as `config_of` and `load_reference`.
    """
    config, columns = config_of(parts)
    check_memory(config, columns)
    model = VideoCVAE(choices.applied(config), columns)
    load_reference(model, parts, choices.order)
    return model.eval()


def combinations(
    config: ModelConfig, columns: int, given: Mapping[str, str], n_past: int
) -> Iterator[Choices]:
    """Every combination that can make a difference, the likeliest first.

    Args:
        config: of the model.
        columns: of the condition.
        given: choices that are known, by the names of `Choices`.
        n_past: number of context frames.
    """
    skips, seen = [], set()
    for skip in SKIPS:
        frame = skip_frame(dataclasses.replace(config, skip=skip), n_past)
        what = "previous" if skip == "previous" else frame
        if what not in seen:
            seen.add(what)
            skips.append(skip)
    orders = ["".join(each) for each in permutations("hcz")] if columns else ["hcz", "zhc"]
    orders.sort(key=lambda order: LIKELY.index(order) if order in LIKELY else len(LIKELY))
    known: dict[str, list[Any]] = {name: [value] for name, value in given.items()}
    for order, at, skip in product(
        known.get("order", orders),
        known.get("condition_at", ["previous", "target"] if columns else ["previous"]),
        known.get("skip", skips),
    ):
        yield Choices(skip, order, at)


def agreements(
    parts: Mapping[str, StateDict], recorded: Recorded, n_past: int, given: Mapping[str, str]
) -> list[Agreement]:
    """Compares combinations of choices with recorded outputs, the nearest first.

    Args:
        parts: the weights.
        recorded: inputs and outputs of the old model.
        n_past: number of context frames.
        given: choices that are known.
    Raises:
        RunError: the recorded arrays do not fit the weights.
    """
    config, columns = config_of(parts)
    _check_recorded(recorded, config, columns, n_past)
    horizon = recorded.predicted.shape[1]
    found = []
    models: dict[str, VideoCVAE] = {}
    for choices in combinations(config, columns, given, n_past):
        if choices.order not in models:
            models = {choices.order: build(parts, choices)}
        model = models[choices.order]
        model.config = choices.applied(config)
        for z_from in ("prior", "posterior"):
            error = _error(model, recorded.first(), n_past, min(horizon, SEARCHED), z_from)
            if error <= recorded.tolerance:
                error = _error(model, recorded, n_past, horizon, z_from)
            found.append(Agreement(choices, z_from, error))
    return sorted((each for each in found if each.error < np.inf), key=lambda each: each.error)


def as_near(found: list[Agreement]) -> list[Agreement]:
    """Those that are as near to the recorded outputs as the nearest, which comes first."""
    return [each for each in found if each.error <= 2 * found[0].error + 1e-6]


def read_recorded(file: Path | str) -> Recorded:
    """Reads the file that `labkit import --check` takes: an npz archive with the arrays

        frames      (B, T, H, W, 3) or (B, T, 3, H, W): uint8, or floats in [0, 1]
        condition   (B, T, C): floats; not needed where the model has no condition
        predicted   as `frames`: what the old model predicted after the context, free-running
        noise       (B, N, z): epsilon of each step's draw of z from t = 1 on, in
                    z = mu + sigma * epsilon; without it the old model must have taken the means
                    (after the context z = 0, where the prior is N(0, I))

    of one clip or several; the first axis may be left out for one clip.

    Raises:
        RunError: there is no such file, it is damaged, or an array is missing or of another kind.
    """
    file = Path(file)
    if not file.is_file():
        what = "is not a regular file" if file.exists() else "no such file"
        raise RunError(what, file=file)
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            names = ("frames", "condition", "predicted", "noise")
            arrays = {name: archive[name] for name in names if name in archive}
    except Exception as error:  # a damaged archive can raise nearly anything
        what = f"is no readable npz archive ({type(error).__name__})"
        raise RunError(what, file=file, hint="np.savez writes one") from None
    for name in ("frames", "predicted"):
        if name not in arrays:
            raise RunError(f"has no array {name!r}", file=file, hint=_ARRAYS)
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise RunError(f"{name} holds other values than finite numbers", file=file)
    frames, predicted = (_pictures(name, arrays[name], file) for name in ("frames", "predicted"))
    # What was rounded to 8 bits agrees to half a level.
    rounded = arrays["predicted"].dtype == np.uint8
    clips = len(frames)
    condition = arrays.get("condition", np.zeros((clips, frames.shape[1], 0), np.float32))
    noise = arrays.get("noise")
    return Recorded(
        frames,
        _rows("condition", condition, file),
        predicted,
        None if noise is None else _rows("noise", noise, file),
        TOLERANCE + (1 / 255 if rounded else 0),
    )


_ARRAYS = "expected the arrays frames, predicted, and where they apply condition and noise"


def _pictures(name: str, array: np.ndarray, file: Path) -> Float[Tensor, "B T 3 H W"]:
    array = array[None] if array.ndim == 4 else array
    if array.ndim == 5 and array.shape[-1] == 3:
        array = array.transpose(0, 1, 4, 2, 3)
    if array.ndim != 5 or array.shape[2] != 3 or not array.size:
        raise RunError(f"{name} are {array.shape}; expected (B, T, H, W, 3)", file=file)
    floats = np.float32(array) / (255 if array.dtype == np.uint8 else 1)
    if floats.min() < -TOLERANCE or floats.max() > 1 + TOLERANCE:
        raise RunError(f"{name} are not within [0, 1]", file=file)
    return torch.from_numpy(np.ascontiguousarray(floats)).clamp(0, 1)


def _rows(name: str, array: np.ndarray, file: Path) -> Float[Tensor, "B T C"]:
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3:
        raise RunError(f"{name} is {array.shape}; expected (B, T, columns)", file=file)
    return torch.from_numpy(np.ascontiguousarray(np.float32(array)))


def _check_recorded(recorded: Recorded, config: ModelConfig, columns: int, n_past: int) -> None:
    clips, side = len(recorded.frames), config.frame_size
    steps = n_past + recorded.predicted.shape[1] - 1
    given = {
        "frames": (recorded.frames, (clips, n_past, 3, side, side)),
        "predicted": (recorded.predicted, (clips, 1, 3, side, side)),
        "condition": (recorded.condition, (clips, steps if columns else 0, columns)),
    }
    if recorded.noise is not None:
        given["noise"] = (recorded.noise, (clips, steps, config.latent_size))
    for name, (tensor, (many, least, *rest)) in given.items():
        fits = len(tensor) == many and tensor.shape[1] >= least and list(tensor.shape[2:]) == rest
        if not fits:
            raise RunError(
                f"{name} has the shape {tuple(tensor.shape)}; expected "
                f"({', '.join(map(str, [many, f'at least {least}', *rest]))})",
                hint="labkit import --n-past says how many of the frames are context",
            )


def _error(
    model: VideoCVAE,
    recorded: Recorded,
    n_past: int,
    horizon: int,
    z_from: Literal["prior", "posterior"],
) -> float:
    """Largest difference of a pixel from what is recorded; infinite where the recorded arrays are
    too short for these choices."""
    frames, condition, noise = recorded.frames, recorded.condition, recorded.noise
    steps = n_past + horizon - 1
    rows = steps + (model.config.condition_at == "target")
    if model.condition_size == 0:
        condition = frames.new_zeros(len(frames), rows, 0)
    if condition.shape[1] < rows:
        return np.inf
    if noise is None:
        noise = frames.new_zeros(len(frames), steps, model.config.latent_size)
    noise = noise[:, :steps]
    with torch.inference_mode():
        if z_from == "prior":
            made = model.predict(frames[:, :n_past], condition, horizon, noise=noise)
        elif frames.shape[1] > steps:
            made = model.reconstruct(frames[:, : steps + 1], condition, n_past, noise=noise)
        else:
            return np.inf
    return (made - recorded.predicted[:, :horizon]).abs().max().item()


def _shape(
    parts: Mapping[str, StateDict], part: str, name: str, dimensions: int
) -> tuple[int, ...]:
    """The shape of a tensor from which a size is read."""
    if name not in parts[part]:
        there = ", ".join(list(parts[part])[:4])
        raise RunError(
            f"{part}.{name} is missing; {part} has {there}, ...",
            hint="the names of SVG's code and of the course's sample code are read; rename the "
            "tensors, or load them by labkit.model.import_weights.load_reference",
        )
    shape = tuple(parts[part][name].shape)
    if len(shape) != dimensions or not all(shape):
        raise RunError(f"{part}.{name} has the shape {shape}; expected {dimensions} dimensions")
    return shape


def _layers(state: StateDict) -> int:
    """How many LSTM cells a part has."""
    numbers = {name.split(".")[1] for name in state if name.startswith("lstm.")}
    return len(numbers)


def _sees_condition(part: str, inputs: int, g: int, columns: int) -> bool:
    """Whether a part's LSTM reads the condition besides an encoding."""
    if inputs not in (g, g + columns):
        raise RunError(
            f"the {part} reads {inputs} numbers; expected {g} (an encoding) or {g + columns} (an "
            "encoding and the condition)"
        )
    return inputs != g


def _same(part: str, what: str, found: int, expected: int) -> None:
    if found != expected:
        raise RunError(
            f"the {part} has {found} {what}, where the lab's model has {expected}",
            hint="the lab's LSTMs share their number of hidden units, and posterior and prior "
            "their number of layers",
        )
