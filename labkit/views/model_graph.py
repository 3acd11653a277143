"""A drawing of the model's graph over time, in the derivation's notation."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path

from labkit.views import style
from labkit.views.figures import LabFigure
from labkit.views.model_graph_data import LEVELS, PITCH, Edge, Node, UnrolledGraph

RADIUS, WIDE, HIGH = 0.36, 1.16, 0.56
"""of a circle; width and height of a box"""
LINES: dict[str, tuple[str, str, str]] = {
    "generation": (style.INK, "-", "generation, θ"),
    "inference": (style.GREEN, "--", "inference, φ"),
    "prior": (style.PURPLE, "-", "prior, p"),
    "feedback": (style.BLUE, "-", "frame fed back"),
    "skip": (style.ORANGE, "-", "skip connections"),
}
"""colour, dashes and meaning of each kind of arrow"""
_FILLS = {"given": "#d9d9d9", "made": style.PAPER, "latent": style.PAPER}


def draw_graph(graph: UnrolledGraph, title: str = "", notes: Sequence[str] = ()) -> LabFigure:
    """Draws a graph: a column a step, what is fed at its foot, what is made at its head.

    Args:
        graph: made by `unrolled_graph`.
        title: said above it.
        notes: lines under it, such as the equations; `$...$` is set as mathematics.

    Returns:
        figure: grey circles are given, white ones made; arrows of inference are dashed.
    """
    left, right = PITCH - 1.9, PITCH * graph.steps + 1.9
    low, high = _foot(graph) - 0.75, LEVELS["made"] + 1.0
    width = 8.0 if graph.steps <= 5 else 8.0 * graph.steps / 5
    inch = width / (right - left)
    head, foot = (0.36 if title else 0.1), 0.5 + 0.24 * len(notes)
    with style.use_style():
        tall = inch * (high - low) + head + foot
        figure = LabFigure(figsize=(width, tall))
        axes = figure.add_axes((0, foot / tall, 1, inch * (high - low) / tall))
        axes.set(xlim=(left, right), ylim=(low, high))
        axes.set_axis_off()
        _bands(axes, graph, low, high)
        for edge in graph.edges:
            _draw_edge(axes, graph, edge)
        for node in graph.nodes.values():
            _draw_node(axes, node)
        if title:
            figure.text(0.02, 1 - 0.1 / tall, title, va="top", fontsize=12, fontweight="bold")
        _legend(figure, graph, foot / tall)
        for line, note in enumerate(notes):
            at = foot - 0.52 - 0.24 * line
            figure.text(0.02, at / tall, note, fontsize=9.5, va="center")
    return figure


def figure_svg(figure: Figure) -> bytes:
    """The figure as an SVG, its letters as outlines so that it looks alike everywhere; the same
    figure makes the same bytes."""
    buffer = io.BytesIO()
    with style.use_style(), mpl.rc_context({"svg.hashsalt": "labkit", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _foot(graph: UnrolledGraph) -> float:
    return min(node.y for node in graph.nodes.values())


def _bands(axes: Axes, graph: UnrolledGraph, low: float, high: float) -> None:
    """A ground behind the steps whose frame is known, and another behind those predicted."""
    parts = (
        ("context", 1, graph.n_past - 1, style.CONTEXT),
        ("predicted", graph.n_past, graph.steps, style.BLUE),
    )
    for word, first, last, color in parts:
        if last < first:
            continue
        left, right = PITCH * (first - 0.5) + 0.06, PITCH * (last + 0.5) - 0.06
        box = (left, low + 0.1), right - left, high - low - 0.2
        axes.add_patch(Rectangle(*box, facecolor=color, alpha=0.07, linewidth=0, zorder=0))
        axes.text(left + 0.12, high - 0.2, word, color=color, va="top", fontsize=10)
    for t in range(1, graph.steps + 1):
        right = PITCH * (t + 0.5) - 0.2
        axes.text(right, high - 0.2, f"$t = {t}$", va="top", ha="right", fontsize=10)


def _draw_node(axes: Axes, node: Node) -> None:
    color = {"inference": LINES["inference"][0], "prior": LINES["prior"][0]}.get(
        node.kind, style.INK
    )
    if node.is_box:
        corner = node.x - WIDE / 2, node.y - HIGH / 2
        shape = FancyBboxPatch(
            corner,
            WIDE,
            HIGH,
            boxstyle="round,pad=0,rounding_size=0.1",
            facecolor=style.PAPER,
            edgecolor=color,
            linestyle="--" if node.kind == "inference" else "-",
            linewidth=1.2,
            zorder=3,
        )
    else:
        shape = Circle(
            (node.x, node.y),
            RADIUS,
            facecolor=_FILLS[node.kind],
            edgecolor=color,
            linewidth=1.2,
            zorder=3,
        )
    axes.add_patch(shape)
    # An upright letter with a hat hangs low: centre on the letter, not on its box.
    axes.text(
        node.x, node.y - 0.02, f"${node.text}$", ha="center", va="center", fontsize=10, zorder=4
    )


def _draw_edge(axes: Axes, graph: UnrolledGraph, edge: Edge) -> None:
    source, target = graph.nodes[edge.source], graph.nodes[edge.target]
    color, dashes, _ = LINES[edge.kind]
    points = _route(edge, source, target)
    axes.add_patch(
        FancyArrowPatch(
            path=_rounded(points),
            arrowstyle="-|>,head_length=4,head_width=2.2",
            color=color,
            linestyle=dashes,
            linewidth=1.3,
            zorder=2 if edge.kind in ("skip", "feedback") else 2.5,
            shrinkA=0,
            shrinkB=0,
        )
    )
    if edge.text:
        (x0, y0), (x1, y1) = points[0], points[-1]
        apart = 0.12 if x0 == x1 else -0.1  # right of a line that stands, left of one that leans
        place = {"ha": "left" if apart > 0 else "right", "va": "center"}
        high = 0.5 * (y0 + y1) + (0.13 if apart > 0 else 0.04)
        axes.text((x0 + x1) / 2 + apart, high, f"${edge.text}$", fontsize=9, color=color, **place)


Point = tuple[float, float]


def _route(edge: Edge, source: Node, target: Node) -> list[Point]:
    """The corners of an arrow, from rim to rim."""
    if edge.kind == "feedback":
        # Along the channel between two columns.
        channel = PITCH * (source.step + 0.5)
        return [
            (source.x + RADIUS, source.y),
            (channel, source.y),
            (channel, target.y),
            (target.x - RADIUS, target.y),
        ]
    if edge.kind == "skip":
        up = source.x - 0.4
        start = up, source.y + HIGH / 2
        if source.step == target.step:
            return [start, (up, target.y), (target.x - WIDE / 2, target.y)]
        bus, enter = target.y - 0.68, target.x - 0.4
        return [start, (up, bus), (enter, bus), (enter, target.y - HIGH / 2)]
    if edge.kind == "prior" and source.step != target.step and source.y != target.y:
        # From beside the posterior to its place: under it, and up between the columns.
        bend = PITCH * (source.step + 0.5) + 0.14
        start, stop = (_rim(source, 1), source.y), (_rim(target, -1), target.y)
        return [start, (bend, source.y), (bend, target.y), stop]
    if edge.kind == "prior" and source.is_box and source.x < target.x and source.y > target.y:
        # Between the frame and the condition, down to the prior.
        lane, aim = target.step * PITCH - 0.5, target.y + 0.15
        start = lane, source.y - HIGH / 2
        if _rim(target, -1) < lane:
            return [start, (lane, target.y + HIGH / 2)]
        return [start, (lane, aim), (_rim(target, -1), aim)]
    if source.y == target.y:
        return [(_rim(source, 1), source.y), (_rim(target, -1), target.y)]
    up = 1 if target.y > source.y else -1
    return [_leave(source, target, up), _enter(source, target, up)]


def _rim(node: Node, side: int) -> float:
    return node.x + side * (WIDE / 2 if node.is_box else RADIUS)


def _leave(source: Node, target: Node, up: int) -> Point:
    """Where an arrow leaves: from the middle of a box's edge, from a circle towards its aim."""
    if source.is_box:
        return source.x + (0.3 if target.x > source.x else 0) * (up < 0), source.y + up * HIGH / 2
    dx, dy = target.x - source.x, target.y - source.y
    far = (dx**2 + dy**2) ** 0.5
    return source.x + RADIUS * dx / far, source.y + RADIUS * dy / far


def _enter(source: Node, target: Node, up: int) -> Point:
    """Where it arrives: at a box's edge towards the side it comes from."""
    if not target.is_box:
        return target.x, target.y - up * RADIUS
    lean = max(-0.36, min(0.36, 0.42 * (source.x - target.x)))
    return target.x + lean, target.y - up * HIGH / 2


def _rounded(points: Sequence[Point], radius: float = 0.16) -> Path:
    """A line through the points, with round corners."""
    corners: list[Point] = [points[0]]
    codes = [Path.MOVETO]
    for before, here, after in zip(points, points[1:], points[2:], strict=False):
        corners += [_towards(here, before, radius), here, _towards(here, after, radius)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*corners, points[-1]], [*codes, Path.LINETO])


def _towards(start: Point, end: Point, far: float) -> Point:
    dx, dy = end[0] - start[0], end[1] - start[1]
    share = min(0.5, far / max((dx**2 + dy**2) ** 0.5, 1e-9))
    return start[0] + share * dx, start[1] + share * dy


def _legend(figure: LabFigure, graph: UnrolledGraph, top: float) -> None:
    """What the arrows and the circles mean: of those that are there."""
    used = {edge.kind for edge in graph.edges}
    handles = [
        Line2D([], [], color=color, linestyle=dashes, linewidth=1.6, label=text)
        for kind, (color, dashes, text) in LINES.items()
        if kind in used
    ]
    for text, fill in (("given", _FILLS["given"]), ("made", style.PAPER)):
        look = {"marker": "o", "markersize": 9, "linestyle": "", "markeredgecolor": style.INK}
        handles.append(Line2D([], [], markerfacecolor=fill, label=text, **look))
    place = {"loc": "upper left", "bbox_to_anchor": (0.015, top), "borderaxespad": 0.3}
    figure.legend(
        handles=handles,
        ncols=len(handles),
        columnspacing=1.1,
        handlelength=1.7,
        handletextpad=0.4,
        **place,
    )
