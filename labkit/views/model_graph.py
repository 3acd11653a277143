"""The model's graph over time, in the derivation's notation: what each frame is computed from.

`unrolled_graph` gives it as data: nodes and arrows. `draw_graph` draws it, `model_graph` does
both.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Patch, Rectangle
from matplotlib.path import Path

from labkit.errors import LabkitError
from labkit.views import style
from labkit.views.figures import LabFigure

MOST_STEPS = 8
"""largest number of steps that can still be read"""
COLUMN = 3.4
"""distance between the columns of two steps"""
PLACES = {
    "x": (0.85, -0.95),
    "fed": (-1.0, 1.05),
    "c": (0.0, 1.5),
    "q": (0.85, 0.35),
    "p": (0.85, 0.35),
    "enc": (-1.0, 2.1),
    "z": (0.85, 2.1),
    "lstm": (0.0, 3.2),
    "dec": (0.0, 4.3),
    "x^": (0.0, 5.35),
}
"""by kind of node: its place, from the middle of its column and from the ground line"""
ASIDE = (-0.35, -0.35)
"""the place of a learned prior at a step whose z_t comes from the posterior"""
COLORS = {
    "generation": (style.INK, "-", "generation, θ"),
    "inference": (style.GREEN, "--", "inference, φ"),
    "prior": (style.PURPLE, "-", "prior, p"),
    "feedback": (style.BLUE, "-", "frame fed back"),
    "skip": (style.ORANGE, "-", "skip connections"),
}
"""colour, dashes and meaning of each kind of arrow"""
GIVEN = "#d9d9d9"


@dataclass(frozen=True)
class Node:
    """A variable (a circle) or a part of the model (a box)."""

    text: str
    """its letters, as mathematics"""
    x: float
    y: float
    kind: str
    """given, predicted, latent: circles; generation, inference, prior: boxes"""
    step: int
    """t of the frame that its column predicts"""

    @property
    def is_box(self) -> bool:
        """Whether it is a part of the model."""
        return self.kind in COLORS


@dataclass(frozen=True)
class Edge:
    """An arrow: `target` is computed from `source`."""

    source: str
    target: str
    kind: str
    """a key of `COLORS`"""


@dataclass
class UnrolledGraph:
    """Nodes by name, and the arrows between them."""

    n_past: int
    steps: int
    """number of columns: T - 1"""
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)

    def sources_of(self, name: str) -> set[str]:
        """All nodes that a node is computed from, directly or not."""
        direct = {edge.source for edge in self.edges if edge.target == name}
        return direct.union(*map(self.sources_of, direct))

    def add(
        self, name: str, t: int, text: str, kind: str, *sources: str, aside: bool = False
    ) -> None:
        """Adds the node `name` of step t, with arrows from those of the sources that exist."""
        x, y = ASIDE if aside else PLACES[name]
        self.nodes[f"{name}{t}"] = Node(text, COLUMN * t + x, y, kind, t)
        kind = kind if kind in COLORS else "generation"
        self.edges += [Edge(each, f"{name}{t}", kind) for each in sources if each in self.nodes]


def unrolled_graph(
    *,
    n_past: int = 2,
    n_future: int = 3,
    z: str = "prior",
    teacher_forced: bool = False,
    skip: str = "last_context",
    learned_prior: bool = False,
    posterior_condition: bool = True,
    condition_at: str = "previous",
) -> UnrolledGraph:
    """The graph of a rollout.

    Args:
        n_past: number of context frames.
        n_future: horizon.
        z: where z_t comes from after the context, "prior" or "posterior". Within the context the
            frame is known, and z_t always comes from the posterior.
        teacher_forced: after the context, the input is the true x_{t-1} and not its prediction.
        skip: whose encoder features the decoder sees, as `model.skip`: "last_context",
            "previous", "first" or "svg".
        learned_prior: p_psi(z_t | x_{0:t-1}, c) instead of N(0, I).
        posterior_condition: whether the posterior sees the condition.
        condition_at: which condition leads to x_t: c_{t-1} ("previous") or c_t ("target").

    Returns:
        the nodes "x3" (true frame), "x^3" (predicted frame), "fed3" (the input frame of step 3),
        "enc3", "c3", "z3", "q3" (posterior), "p3" (prior), "lstm3", "dec3", and the arrows.

    Raises:
        LabkitError: no context, no horizon, too many steps, or an unknown word.
    """
    steps = n_past + n_future - 1
    if n_past < 1 or n_future < 1 or steps > MOST_STEPS:
        raise LabkitError(
            f"a graph of {n_past} -> {n_future} frames",
            hint=f"give 1 or more of each, and at most {MOST_STEPS + 1} in all",
        )
    skips = {"previous": steps, "last_context": n_past, "first": 1, "svg": max(1, n_past - 1)}
    for name, word, known in (
        ("z", z, ("prior", "posterior")),
        ("skip", skip, tuple(skips)),
        ("condition_at", condition_at, ("previous", "target")),
    ):
        if word not in known:
            raise LabkitError(f"{name} is {word!r}", hint=f"choose from {', '.join(known)}")
    graph = UnrolledGraph(n_past, steps)
    for t in range(1, steps + 1):
        true_input = t <= n_past or teacher_forced
        hat = f"x_{{{t - 1}}}" if true_input else rf"\hat{{x}}_{{{t - 1}}}"
        graph.add("fed", t, hat, "given" if true_input else "predicted")
        # x_{t-1}, the true one or its prediction
        source = f"x{t - 1}" if true_input else f"x^{t - 1}"
        if source in graph.nodes:
            graph.edges.append(Edge(source, f"fed{t}", "feedback"))
        # h_{t-1} = Enc(x_{t-1})
        graph.add("enc", t, r"\mathrm{Enc}", "generation", f"fed{t}")
        graph.add("c", t, f"c_{{{t - 1 if condition_at == 'previous' else t}}}", "given")
        posterior = t < n_past or z == "posterior"
        if posterior:  # z_t ~ q_phi(z_t | x_{1:t}, c)
            graph.add("x", t, f"x_{{{t}}}", "given")
            seen = [f"x{t}", f"q{t - 1}", *([f"c{t}"] if posterior_condition else [])]
            graph.add("q", t, r"\mathrm{LSTM}_\phi", "inference", *seen)
        if learned_prior:  # p_psi(z_t | x_{0:t-1}, c), computed at every step
            seen = [f"enc{t}", f"c{t}", f"p{t - 1}"]
            graph.add("p", t, r"\mathrm{LSTM}_\psi", "prior", *seen, aside=posterior)
        elif not posterior:  # p(z_t) = N(0, I)
            graph.add("p", t, r"\mathcal{N}(0, I)", "prior")
        graph.add("z", t, f"z_{{{t}}}", "latent")
        origin = (
            Edge(f"q{t}", f"z{t}", "inference") if posterior else Edge(f"p{t}", f"z{t}", "prior")
        )
        graph.edges.append(origin)
        # g_t = LSTM_theta(h_{t-1}, c_{t-1}, z_t)
        seen = [f"enc{t}", f"c{t}", f"z{t}", f"lstm{t - 1}"]
        graph.add("lstm", t, r"\mathrm{LSTM}_\theta", "generation", *seen)
        if t >= n_past or z == "posterior":  # x^_t = Dec(g_t, skips)
            graph.add("dec", t, r"\mathrm{Dec}", "generation", f"lstm{t}")
            graph.edges.append(Edge(f"enc{min(t, skips[skip])}", f"dec{t}", "skip"))
            graph.add("x^", t, rf"\hat{{x}}_{{{t}}}", "predicted", f"dec{t}")
    return graph


def model_graph(title: str = "", notes: Sequence[str] = (), **rollout: object) -> LabFigure:
    """The graph of a rollout as a figure.

    Args:
        title: text above it.
        notes: lines below it, such as the equations; `$...$` is set as mathematics.
        rollout: the arguments of `unrolled_graph`.
    """
    return draw_graph(unrolled_graph(**rollout), title, notes)  # type: ignore[arg-type]


def draw_graph(graph: UnrolledGraph, title: str = "", notes: Sequence[str] = ()) -> LabFigure:
    """Draws a graph: a column for each step, its inputs at the bottom, its prediction at the top.

    Grey circles are given, white ones are computed. Arrows of inference are dashed.
    """
    left, right, low, high = COLUMN - 1.9, COLUMN * graph.steps + 1.9, -1.7, 6.35
    width = 8.0 * max(1.0, graph.steps / 5)
    inch = width / (right - left)
    head, foot = (0.36 if title else 0.1), 0.5 + 0.24 * len(notes)
    tall = inch * (high - low) + head + foot
    with style.use_style():
        figure = LabFigure(figsize=(width, tall))
        axes = figure.add_axes((0, foot / tall, 1, inch * (high - low) / tall))
        axes.set(xlim=(left, right), ylim=(low, high))
        axes.set_axis_off()
        _draw_background(axes, graph, low, high)
        shapes = {name: axes.add_patch(_shape(node)) for name, node in graph.nodes.items()}
        for node in graph.nodes.values():
            text = f"${node.text}$"
            axes.text(node.x, node.y - 0.02, text, ha="center", va="center", fontsize=10, zorder=4)
        for edge in graph.edges:
            axes.add_patch(_arrow(graph, edge, shapes))
        figure.text(0.02, 1 - 0.1 / tall, title, va="top", fontsize=12, fontweight="bold")
        for line, note in enumerate(notes):
            figure.text(0.02, (foot - 0.52 - 0.24 * line) / tall, note, fontsize=9.5, va="center")
        used = {edge.kind for edge in graph.edges}
        lines = [
            Line2D([], [], color=color, linestyle=dashes, label=text)
            for kind, (color, dashes, text) in COLORS.items()
            if kind in used
        ]
        dot = {"marker": "o", "markersize": 9, "linestyle": "", "markeredgecolor": style.INK}
        for text, fill in (("given", GIVEN), ("computed", style.PAPER)):
            lines.append(Line2D([], [], markerfacecolor=fill, label=text, **dot))
        place = {"loc": "upper left", "bbox_to_anchor": (0.01, foot / tall), "borderaxespad": 0.3}
        figure.legend(
            handles=lines, ncols=len(lines), columnspacing=0.9, handlelength=1.6,
            handletextpad=0.4, **place,
        )  # fmt: skip
    return figure


def figure_svg(figure: Figure) -> bytes:
    """The figure as an SVG with its letters as outlines; the same figure makes the same bytes."""
    buffer = io.BytesIO()
    with style.use_style(), mpl.rc_context({"svg.hashsalt": "labkit", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _draw_background(axes: Axes, graph: UnrolledGraph, low: float, high: float) -> None:
    """The steps whose frame is known stand on grey, the predicted ones on blue."""
    for t in range(1, graph.steps + 1):
        word, color = ("context", style.CONTEXT) if t < graph.n_past else ("predicted", style.BLUE)
        left = COLUMN * (t - 0.5) + 0.03
        box = Rectangle((left, low + 0.1), COLUMN - 0.06, high - low - 0.2)
        box.set(facecolor=color, alpha=0.07, linewidth=0, zorder=0)
        axes.add_patch(box)
        axes.text(left + 0.12, high - 0.2, word, color=color, va="top", fontsize=10)
        right = left + COLUMN - 0.2
        axes.text(right, high - 0.2, f"$t = {t}$", va="top", ha="right", fontsize=10)


def _shape(node: Node) -> Patch:
    color, dashes, _ = COLORS.get(node.kind, COLORS["generation"])
    look = {"facecolor": GIVEN if node.kind == "given" else style.PAPER, "edgecolor": color}
    look |= {"linestyle": dashes, "linewidth": 1.2, "zorder": 3}
    if not node.is_box:
        return Circle((node.x, node.y), 0.36, **look)
    corner = node.x - 0.58, node.y - 0.28
    return FancyBboxPatch(corner, 1.16, 0.56, boxstyle="round,pad=0,rounding_size=0.1", **look)


def _arrow(graph: UnrolledGraph, edge: Edge, shapes: dict[str, Patch]) -> FancyArrowPatch:
    """An arrow from rim to rim: matplotlib cuts it where it enters the two shapes."""
    source, target = graph.nodes[edge.source], graph.nodes[edge.target]
    color, dashes, _ = COLORS[edge.kind]
    if edge.kind == "skip":
        left, corner, below = source.x - 0.4, target.x - 0.4, target.y - 0.55
        # into the decoder's side, or along the line below the decoders
        near = [(left, target.y), (target.x - 0.58, target.y)]
        far = [(left, below), (corner, below), (corner, target.y - 0.28)]
        way = [(left, source.y + 0.28), *(near if source.step == target.step else far)]
    elif edge.kind == "feedback" and source.kind == "predicted":  # down between two columns
        lane = COLUMN * (source.step + 0.5)
        way = [(source.x + 0.36, source.y), (lane, source.y), (lane, target.y)]
        way += [(target.x - 0.36, target.y)]
    else:
        way = [(source.x, source.y), (target.x, target.y)]
    ends = {"patchA": shapes[edge.source], "patchB": shapes[edge.target]}
    straight = {"posA": way[0], "posB": way[1], **ends}
    return FancyArrowPatch(
        **(straight if len(way) == 2 else {"path": Path(way)}),
        arrowstyle="-|>,head_length=4,head_width=2.2",
        color=color,
        linestyle=dashes,
        linewidth=1.3,
        joinstyle="round",
        zorder=2,
    )
