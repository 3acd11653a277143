"""The graph over time: it is the model's own, and its drawing can be read."""

from __future__ import annotations

import dataclasses
import itertools
import re
from xml.etree import ElementTree

import pytest
import torch

from labkit.errors import LabkitError
from labkit.model import VideoCVAE
from labkit.presets import SMOKE
from labkit.views.figures import figure_png
from labkit.views.model_graph import (
    UnrolledGraph,
    draw_graph,
    figure_svg,
    model_graph,
    unrolled_graph,
)

N_PAST, N_FUTURE = 2, 3


def given(graph: UnrolledGraph, name: str, letter: str) -> set[int]:
    """Indices of the true frames ("x") or conditions ("c") that a node is made of."""
    texts = [graph.nodes[n].text for n in graph.sources_of(name) if graph.nodes[n].kind == "given"]
    return {int(text[3:-1]) for text in texts if text.startswith(f"{letter}_")}


def reached(output: torch.Tensor, source: torch.Tensor) -> set[int]:
    """Time steps of `source` (1, T, ...) with a gradient that is not zero."""
    (gradient,) = torch.autograd.grad(output.sum(), source, retain_graph=True)
    return set(torch.nonzero(gradient[0].flatten(1).abs().sum(dim=1)).flatten().tolist())


@pytest.mark.parametrize("z", ["prior", "posterior"])
@pytest.mark.parametrize("condition_at", ["previous", "target"])
@pytest.mark.parametrize(("prior", "skip"), [("fixed", "last_context"), ("learned", "previous")])
def test_the_graph_is_the_models(z, condition_at, prior, skip) -> None:
    """What a prediction is made of in the drawing is what its gradient reaches in the model."""
    torch.manual_seed(0)
    config = dataclasses.replace(SMOKE.model, prior=prior, skip=skip, condition_at=condition_at)
    model = VideoCVAE(config, 7).eval()
    length = N_PAST + N_FUTURE
    frames = torch.rand(1, length, 3, 64, 64, requires_grad=True)
    condition = torch.randn(1, length, 7, requires_grad=True)
    if z == "prior":
        made = model.predict(frames[:, :N_PAST], condition, N_FUTURE)
    else:
        made = model.reconstruct(frames, condition, N_PAST)
    graph = unrolled_graph(
        n_past=N_PAST,
        n_future=N_FUTURE,
        z=z,
        skip=skip,
        learned_prior=prior == "learned",
        condition_at=condition_at,
    )
    for step in range(N_FUTURE):
        name = f"x^{N_PAST + step}"
        assert reached(made[:, step], frames) == given(graph, name, "x")
        assert reached(made[:, step], condition) == given(graph, name, "c")


@pytest.mark.parametrize("z", ["prior", "posterior"])
def test_which_frame_is_fed_back(z) -> None:
    free = unrolled_graph(z=z)
    assert {e.source for e in free.edges if e.target == "fed3"} == {"x^2"}
    assert free.nodes["fed3"].text == r"\hat{x}_{2}"
    forced = unrolled_graph(z=z, teacher_forced=True)
    assert "x^2" not in {e.source for e in forced.edges if e.target == "fed3"}
    assert forced.nodes["fed3"].text == "x_{2}"
    assert forced.nodes["fed3"].kind == "given"


@pytest.mark.parametrize(
    ("skip", "sources"),
    [
        ("last_context", ["enc2", "enc2", "enc2"]),
        ("previous", ["enc2", "enc3", "enc4"]),
        ("first", ["enc1", "enc1", "enc1"]),
        ("svg", ["enc1", "enc1", "enc1"]),
    ],
)
def test_where_the_skip_connections_come_from(skip, sources) -> None:
    graph = unrolled_graph(skip=skip)
    assert [edge.source for edge in graph.edges if edge.kind == "skip"] == sources


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_past": 0},
        {"n_future": 0},
        {"n_future": 30},
        {"z": "both"},
        {"skip": "random"},
        {"condition_at": "next"},
    ],
)
def test_a_graph_that_cannot_be_drawn(wrong) -> None:
    with pytest.raises(LabkitError):
        unrolled_graph(**wrong)


ALL = list(itertools.product(("prior", "posterior"), (False, True), (False, True)))


@pytest.mark.parametrize(("z", "teacher_forced", "learned_prior"), ALL)
def test_no_letters_lie_on_others_and_nothing_is_cut_off(z, teacher_forced, learned_prior) -> None:
    graph = unrolled_graph(z=z, teacher_forced=teacher_forced, learned_prior=learned_prior)
    figure = draw_graph(graph, "A title", ["$a_t$", "$b_t$"])
    figure.draw_without_rendering()
    axes = figure.axes[0]
    (legend,) = figure.legends
    texts = [*axes.texts, *figure.texts, *legend.get_texts()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    for (one, box), (other, second) in itertools.combinations(boxes, 2):
        assert not box.overlaps(second), f"{one} lies on {other}"
    for name, box in boxes:
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1, f"{name} is cut off"
        assert 0 <= box.y0 < box.y1 <= figure.bbox.y1, f"{name} is cut off"


def test_inference_is_dashed_and_the_rest_is_not() -> None:
    graph = unrolled_graph(z="posterior")
    arrows = draw_graph(graph).axes[0].patches
    dashed = [arrow for arrow in arrows if arrow.get_linestyle() == "--"]
    boxes = sum(node.kind == "inference" for node in graph.nodes.values())
    assert len(dashed) == boxes + sum(edge.kind == "inference" for edge in graph.edges)


def test_the_svg_is_the_same_each_time_and_holds_no_bitmap() -> None:
    first, second = (figure_svg(model_graph("t", ["$x$"])) for _ in range(2))
    assert first == second
    kinds = {re.sub(r"{.*}", "", element.tag) for element in ElementTree.fromstring(first).iter()}
    assert "path" in kinds
    assert "image" not in kinds
    assert b"<dc:date>" not in first
    figure_png(draw_graph(unrolled_graph(n_past=1, n_future=1)))
    figure_png(draw_graph(unrolled_graph(n_past=4, n_future=5, z="posterior", learned_prior=True)))
