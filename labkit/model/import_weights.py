"""Weights of the public implementations (SVG's code and the course's sample code) in our model.

Those name their modules so, with `<k>` from 1 to 5 and `<j>` counting layers from 0:

    encoder, decoder       dcgan: c<k>, upc<k> with .main.0 (convolution) and .main.1 (norm)
                           vgg:   c<k>.<j>, upc<k>.<j> with the same; the last encoder block and the
                           first decoder block are plain: .0 convolution, .1 norm
    LSTMs                  embed, lstm.<i> (each an LSTMCell), output.0 (and output.1, a norm, in
                           the course's), mu_net and logvar_net of the Gaussian ones

`read_weights.py` reads the file, and `match_weights.py` finds the settings that the weights were
made with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from labkit.config import ModelConfig
from labkit.errors import RunError
from labkit.model.read_weights import read_checkpoint, without_wrappers
from labkit.model.video_cvae import VideoCVAE

StateDict = Mapping[str, Tensor]

PARTS = {
    "encoder": "encoder",
    "decoder": "decoder",
    "frame_predictor": "predictor",
    "posterior": "posterior",
    "prior": "prior",
}
"""The reference's name of each part, and ours."""


def load_reference(model: VideoCVAE, states: Mapping[str, StateDict], order: str = "hcz") -> None:
    """Takes over the weights of a public implementation; then the same inputs give the same
    outputs.

    Args:
        model: of a shape that has a counterpart there: presets `course`, `spec` and `svg`, with
            either backbone and either prior.
        states: the state dict of each of `PARTS`, by the reference's names; `prior` where the
            model has one.
        order: in which the frame predictor's inputs were joined there: encoding h, condition c
            and latent z. The weights do not show it, and the implementations of the course
            differ; look for `frame_predictor(torch.cat(...))`. SVG has no c. A posterior or prior
            that reads the condition has h and c in the same order.
    Raises:
        RunError: a part or a tensor is missing, left over, or of another shape, or the model has
            parts that have no counterpart there; the message names it. The model is then as it
            was.
    """
    if sorted(order) != ["c", "h", "z"]:
        raise RunError(f"the order is {order!r}; expected h, c and z, such as 'hcz' or 'chz'")
    states = {part: without_wrappers(state) for part, state in states.items()}
    wanted = {name for name, own in PARTS.items() if getattr(model, own) is not None}
    if set(states) != wanted:
        raise RunError(
            f"the parts are {', '.join(sorted(states)) or 'none'}; "
            f"expected {', '.join(sorted(wanted))}",
            hint="model.prior=learned expects a prior, model.prior=fixed expects none",
        )
    renamed = {}
    for part, state in states.items():
        own = PARTS[part]
        names = dict(reference_names(model.config, own))
        there, here = set(state) - _counters(state), set(names)
        if there != here:
            wrong = [f"{part}.{name} is missing" for name in sorted(here - there)]
            wrong += [f"{part}.{name} is not in this model" for name in sorted(there - here)]
            raise RunError(
                "; ".join(wrong[:4]) + (f"; and {len(wrong) - 4} more" if len(wrong) > 4 else ""),
                hint="choose the preset and the backbone that the weights were made with",
            )
        for name, value in state.items():
            if name in names:
                renamed[f"{own}.{names[name]}"] = value
    _fits(model, renamed)
    reads = {"predictor": "hcz"}
    reads["posterior"] = "hc" if model.config.posterior_condition else "h"
    reads["prior"] = "hc" if model.config.prior_condition else "h"
    for own, inputs in reads.items():
        name = f"{own}.embed.weight"
        if name in renamed:
            there = "".join(each for each in order if each in inputs)
            renamed[name] = _reordered(model, renamed[name], there, inputs)
    model.load_state_dict(renamed, strict=False)


def _reordered(model: VideoCVAE, weight: Tensor, there: str, here: str) -> Tensor:
    """An embedding's columns in our order of the inputs h, c and z."""
    config = model.config
    sizes = {"h": config.encoding_size, "c": model.condition_size, "z": config.latent_size}
    blocks = weight.split([sizes[name] for name in there], dim=1)
    return torch.cat([blocks[there.index(name)] for name in here], dim=1)


def read_states(file: Path | str) -> dict[str, dict[str, Tensor]]:
    """The state dict of each part in a file of another program (`read_checkpoint`).

    Raises:
        RunError: as `read_checkpoint`.
    """
    return read_checkpoint(file).parts


def reference_names(config: ModelConfig, part: str) -> Iterator[tuple[str, str]]:
    """The reference's name of each tensor of a part, and ours."""
    if part in ("encoder", "decoder"):
        yield from _encoder(config) if part == "encoder" else _decoder(config)
        return
    yield from _both("embed", "embed")
    layers = config.predictor_layers if part == "predictor" else config.posterior_layers
    for layer in range(layers):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            yield f"lstm.{layer}.{name}", f"lstm.{name}_l{layer}"
    if part == "predictor":
        yield from _both("output.0", "output")
        if config.predictor_norm == "batch":
            yield from _norm("output.1", "norm")
    else:
        yield from _both("mu_net", "mean")
        yield from _both("logvar_net", "log_variance")


def _encoder(config: ModelConfig) -> Iterator[tuple[str, str]]:
    depths = (2, 2, 3, 3) if config.backbone == "vgg64" else (1, 1, 1, 1)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            inner = f".{block}" if config.backbone == "vgg64" else ""
            yield from _block(f"c{stage + 1}{inner}.main", f"stages.{stage}.{block}", "conv")
    yield from _both("c5.0", "to_encoding")
    yield from _norm("c5.1", "encoding_norm")


def _decoder(config: ModelConfig) -> Iterator[tuple[str, str]]:
    yield from _both("upc1.0", "from_encoding.conv")
    yield from _norm("upc1.1", "from_encoding.norm")
    vgg = config.backbone == "vgg64"
    for stage, depth in enumerate((3, 3, 2, 1) if vgg else (1, 1, 1)):
        for block in range(depth):
            inner = f".{block}" if vgg else ""
            # The first convolution of a stage joins the skip features.
            conv = "conv" if block else "conv.conv"
            yield from _block(f"upc{stage + 2}{inner}.main", f"stages.{stage}.{block}", conv)
    yield from _both("upc5.1", "to_output") if vgg else _both("upc5.0", "to_output.conv")


def _block(reference: str, own: str, conv: str) -> Iterator[tuple[str, str]]:
    yield from _both(f"{reference}.0", f"{own}.{conv}")
    yield from _norm(f"{reference}.1", f"{own}.norm")


def _both(reference: str, own: str) -> Iterator[tuple[str, str]]:
    for name in ("weight", "bias"):
        yield f"{reference}.{name}", f"{own}.{name}"


def _norm(reference: str, own: str) -> Iterator[tuple[str, str]]:
    yield from _both(reference, own)
    for name in ("running_mean", "running_var"):
        yield f"{reference}.{name}", f"{own}.{name}"


def _counters(state: StateDict) -> set[str]:
    """Batch norm's counts of batches seen, which no output depends on."""
    return {name for name in state if re.search(r"(^|\.)num_batches_tracked$", name)}


def _fits(model: VideoCVAE, renamed: StateDict) -> None:
    own = model.state_dict()
    # The reference has no units of a condition: it is given as it is.
    kept = _counters(own) | {"condition_mean", "condition_std"}
    extra = sorted(set(renamed) ^ (set(own) - kept))
    if extra or model.config.normalise_condition:
        what = extra[0] if extra else "model.normalise_condition"
        raise RunError(
            f"this model and the public implementations differ in {what}",
            hint="start from the presets course, spec or svg",
        )
    for name, value in renamed.items():
        if own[name].shape != value.shape:
            raise RunError(
                f"{name} has shape {tuple(value.shape)}; expected {tuple(own[name].shape)}",
                hint="choose the sizes that the weights were made with (encoding_size is g_dim, "
                "latent_size z_dim, hidden_size rnn_size)",
            )
