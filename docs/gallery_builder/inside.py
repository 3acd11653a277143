"""The gallery's pictures of the model: latents, leakage certificate, graph over time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from inspect import signature
from typing import Any

import torch

from gallery_builder.picture import Material, Picture
from labkit.config import Config
from labkit.evaluation.latents import infer_latents, traverse
from labkit.evaluation.leakage import predictor_of, prove
from labkit.frames import to_uint8
from labkit.reporting.certificate import certificate_png
from labkit.views import figure_png, kl_heat_map, prior_and_posterior, traversal_strips
from labkit.views.deviation import deviation_map
from labkit.views.model_graph import figure_svg, model_graph, unrolled_graph

SAMPLES = 20
"""number of sampled futures in the deviation map"""
TURNED, AHEAD = 3, 5
"""number of latents in the traversal, those with the largest KL; and the predicted frame shown"""
GAUSSIANS = ("q_mean", "q_std", "p_mean", "p_std")


def deviation(material: Material) -> Picture:
    """Where sampled futures of the first clip differ."""
    n_past, horizon = material.n_past, material.config.data.n_future
    batch = material.dataset.batch(range(1)).to("cpu")
    generator = torch.Generator().manual_seed(material.seed)
    with torch.inference_mode():
        samples = material.model.predict(
            batch.frames[:, :n_past],
            batch.condition,
            horizon,
            generator=generator,
            samples=SAMPLES,
        )[0]
    deviation = 255 * samples.std(dim=0).mean(dim=1).numpy()
    said = (
        f"{material.task}, {SAMPLES} samples from the prior of the first clip of the simulated "
        f"test split, the same actions; mean over pixels and steps {deviation.mean():.2f}, "
        f"largest {deviation.max():.1f} grey levels of 255"
    )
    figure = deviation_map(
        to_uint8(batch.frames[0, n_past:]),
        to_uint8(samples[0], clip=True),
        deviation,
        n_past,
        f"{said}.",
    )
    return Picture(
        "deviation.png",
        figure_png(figure),
        f"Where {SAMPLES} samples differ",
        "The effect of z: the standard deviation of each pixel between the samples. With a "
        "collapsed posterior the map is zero.",
        "Map of the standard deviation of each pixel between samples, under the frames",
        said,
        "labkit.views.deviation.deviation_map(truth, sample, deviation, n_past, protocol)",
    )


def latents(material: Material) -> Iterator[Picture]:
    """KL, posterior and prior of the latents, and the effect of each on a frame."""
    found = infer_latents(
        material.model, material.dataset, clips=material.dataset.n_clips, seed=material.seed
    )
    said = (
        f"{material.task}, z from the posterior, first windows of {len(found.kl)} clips of the "
        "simulated test split"
    )
    yield Picture(
        "latents.png",
        figure_png(kl_heat_map(found.by_step(), n_past=material.n_past)),
        "KL of each latent",
        f"KL of each latent at each time step. {len(found.active())} of {found.kl.shape[-1]} are "
        "active: the mean of their posterior depends on the clip (Burda et al. 2016).",
        "Heat map of the KL divergence by latent and time step, and the mean of each latent",
        said,
        "kl_heat_map(infer_latents(model, dataset).by_step(), n_past=2)",
    )
    chosen = found.order()[:TURNED].tolist()
    flat = [getattr(found, each).reshape(-1, found.kl.shape[-1]) for each in GAUSSIANS]
    yield Picture(
        "posterior.png",
        figure_png(prior_and_posterior(*flat, chosen)),
        "Posterior and prior",
        "The aggregated posterior of all clips should equal the prior; the posterior of a single "
        "clip should differ from it.",
        "Densities of the prior and of the posterior, for the latents with the largest KL",
        f"{said}; the {len(chosen)} latents with the largest KL",
        "prior_and_posterior(q_mean, q_std, p_mean, p_std, latents)",
    )
    batch = material.dataset.batch(range(1)).to("cpu")
    turned = traverse(
        material.model,
        batch.frames[0, : material.n_past],
        batch.condition[0],
        material.config.data.n_future,
        chosen,
    )
    step = min(AHEAD, turned.frames.shape[2]) - 1
    figure = traversal_strips(
        turned.frames[:, :, step],
        turned.latents,
        turned.values,
        scores=found.by_latent()[chosen].tolist(),
    )
    yield Picture(
        "traversal.png",
        figure_png(figure),
        "Traversal of one latent",
        f"Predicted frame t = {material.n_past + step}, with one latent away from its mean "
        "and all others at theirs. Right: the difference.",
        "Predicted frames for five values of each of the latents with the largest KL",
        f"{material.task}, first clip of the simulated test split; values in standard deviations "
        "of the prior",
        "traversal_strips(traverse(model, context, condition, 10, latents).frames[:, :, 4], ...)",
    )


def leak_certificate(material: Material) -> Picture:
    """The certificate that no future frame is read."""
    proof = prove(
        predictor_of(material.model),
        material.dataset.batch(range(2)),
        material.n_past,
        seed=material.seed,
        data="the test split of simulated",
    )
    return Picture(
        "certificate.png",
        certificate_png(proof),
        "No future frame is read",
        "Each frame, each condition and each prediction is changed alone; a cell is coloured "
        "if a prediction changes. Future frames are also replaced by noise and by NaN, and "
        "their gradient is computed.",
        f"Certificate: {proof.headline}; matrices of what influences which prediction",
        proof.protocol,
        "labkit prove runs/demo",
    )


def graphs(config: Config) -> Iterator[Picture]:
    """The model's graph over time, in a prediction and in training."""
    model = config.model
    skip = "last_context" if model.skip == "random_context" else model.skip
    given = {
        "skip": skip,
        "learned_prior": model.prior == "learned",
        "posterior_condition": model.posterior_condition,
        "condition_at": model.condition_at,
    }
    c = "c_{t-1}" if model.condition_at == "previous" else "c_t"
    seen = "x_{1:t}, c" if model.posterior_condition else "x_{1:t}"
    prior = (
        r"p_\psi(z_t \mid x_{0:t-1}, c)"
        if given["learned_prior"]
        else r"p(z_t) = \mathcal{N}(0, I)"
    )
    step = (
        rf"$h_{{t-1}} = \mathrm{{Enc}}(x_{{t-1}}),\quad g_t = \mathrm{{LSTM}}_\theta(h_{{t-1}}, {c}"
        r", z_t),\quad \hat{x}_t = \mathrm{Dec}(g_t, \mathrm{skips})$"
    )
    posterior = rf"$z_t \sim q_\phi(z_t \mid {seen})$"
    kinds = (
        (
            "graph_prediction",
            "prior",
            "A prediction, unrolled",
            [step, rf"context: {posterior};   after it: $z_t \sim {prior}$"],
            "Each predicted frame is the input of the next step, and z is sampled from the prior. "
            "No true frame after the context is in the graph.",
        ),
        (
            "graph_training",
            "posterior",
            "A training rollout with teacher forcing, unrolled",
            [step, rf"{posterior};   KL$(q_\phi \,\Vert\, p)$ with ${prior}$"],
            "The input is the true frame; in a free-running rollout it is the predicted frame. In "
            "both cases z comes from the posterior, which sees the target.",
        ),
    )
    for file, z, title, notes, text in kinds:
        how = {"z": z, "teacher_forced": z == "posterior", **given}
        yield Picture(
            f"{file}.svg",
            figure_svg(model_graph(title, notes, **how)),
            title,
            f"{text} Dashed arrows are inference, full ones generation.",
            f"{title}: one column per time step, frames and conditions below, predictions above",
            "2 -> 3 frames; skip connections, prior and conditions as in the run's settings",
            f"labkit.views.model_graph(title, notes, {_arguments(how)})",
        )


def _arguments(given: dict[str, Any]) -> str:
    """The arguments of a call, without the defaults of `unrolled_graph`."""
    own = {name: each.default for name, each in signature(unrolled_graph).parameters.items()}
    return ", ".join(
        f"{name}={json.dumps(value) if isinstance(value, str) else value}"
        for name, value in given.items()
        if value != own[name]
    )
