"""The model's graph over time as data: what is made of what, in the derivation's notation.

`model_graph` draws it. As data it can be asked: whether a true frame reaches a prediction, say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from labkit.errors import LabkitError

Kind = Literal["generation", "inference", "prior", "skip", "feedback"]

MOST_STEPS = 8
"""steps of a graph that can still be read"""

PITCH = 3.4
"""distance between the columns of two steps"""
LEFT, RIGHT = -1.0, 0.85
"""where the encoder is, and the latent, beside the middle of their column"""
ASIDE = -0.35
"""where a prior is that z_t is not drawn from"""
LEVELS = {
    "target": -0.95,
    "unused prior": -0.3,
    "gaussian": 0.35,
    "fed": 1.05,
    "condition": 1.5,
    "encoder": 2.1,
    "latent": 2.1,
    "recurrent": 3.2,
    "decoder": 4.3,
    "made": 5.35,
}
"""height of each kind of node"""


@dataclass(frozen=True)
class Node:
    """A variable (a circle) or a part of the model (a box)."""

    text: str
    """its letters, as mathematics"""
    x: float
    y: float
    kind: Literal["given", "made", "latent", "part", "inference", "prior"]
    """given and made are frames or conditions; part, inference and prior are boxes"""
    step: int
    """t, of the frame that its column makes"""

    @property
    def is_box(self) -> bool:
        """Whether it is a part of the model."""
        return self.kind in ("part", "inference", "prior")


@dataclass(frozen=True)
class Edge:
    """An arrow: `target` is made of `source`."""

    source: str
    target: str
    kind: Kind
    text: str = ""
    """what runs along it"""


@dataclass(frozen=True)
class UnrolledGraph:
    """Nodes by name, and the arrows between them."""

    nodes: dict[str, Node]
    edges: tuple[Edge, ...]
    n_past: int
    steps: int
    """number of columns: T - 1"""

    def sources_of(self, name: str) -> set[str]:
        """All that a node is made of, directly or not."""
        found: set[str] = set()
        asked = [name]
        while asked:
            here = asked.pop()
            new = {edge.source for edge in self.edges if edge.target == here} - found
            found |= new
            asked += new
        return found


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
        z: where z_t comes from after the context, "prior" or "posterior"; within it, where the
            frame is known, from the posterior in any case.
        teacher_forced: feed the true x_{t-1} back after the context, not the prediction of it.
        skip: whose encoder features the decoder sees, as `model.skip`: "last_context",
            "previous", "first" or "svg".
        learned_prior: p_psi(z_t | x_{0:t-1}, c) instead of N(0, I).
        posterior_condition: whether the posterior sees the condition.
        condition_at: which condition leads to x_t: c_{t-1} ("previous") or c_t ("target").

    Returns:
        the nodes "x3" (a true frame), "x^3" (the predicted one), "fed3" (what step 3 is fed),
        "enc3", "c3", "z3", "q3" (the posterior), "p3" (the prior), "lstm3", "dec3", and the arrows.

    Raises:
        LabkitError: no context, no horizon, or more steps than can be read; unknown words.
    """
    steps = n_past + n_future - 1
    if n_past < 1 or n_future < 1 or steps > MOST_STEPS:
        raise LabkitError(
            f"a graph of {n_past} -> {n_future} frames",
            hint=f"draw 1 or more of each, and at most {MOST_STEPS + 1} in all",
        )
    for name, word, known in (
        ("z", z, ("prior", "posterior")),
        ("skip", skip, ("last_context", "previous", "first", "svg")),
        ("condition_at", condition_at, ("previous", "target")),
    ):
        if word not in known:
            raise LabkitError(f"{name} is {word!r}", hint=f"choose from {', '.join(known)}")
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    for t in range(1, steps + 1):
        _feed(nodes, edges, t, fed_true=t <= n_past or teacher_forced)
        _condition(nodes, t, condition_at)
        inferred = t < n_past or z == "posterior"
        if inferred:
            _infer(nodes, edges, t, posterior_condition)
        if learned_prior or not inferred:
            _prior(nodes, edges, t, learned_prior, used=not inferred)
        _advance(nodes, edges, t)
        if t >= n_past or z == "posterior":
            last = {"previous": t, "last_context": n_past, "first": 1, "svg": max(1, n_past - 1)}
            source = min(t, last[skip])
            _decode(nodes, edges, t, source)
    return UnrolledGraph(nodes, tuple(edges), n_past, steps)


def _place(
    nodes: dict[str, Node], name: str, text: str, t: int, side: float, level: str, kind: str
) -> None:
    nodes[name] = Node(text, PITCH * t + side, LEVELS[level], kind, t)  # type: ignore[arg-type]


def _feed(nodes: dict[str, Node], edges: list[Edge], t: int, *, fed_true: bool) -> None:
    """x_{t-1}, true or as predicted, and its encoding."""
    text = f"x_{{{t - 1}}}" if fed_true else rf"\hat{{x}}_{{{t - 1}}}"
    _place(nodes, f"fed{t}", text, t, LEFT, "fed", "given" if fed_true else "made")
    _place(nodes, f"enc{t}", r"\mathrm{Enc}", t, LEFT, "encoder", "part")
    source = f"x{t - 1}" if fed_true else f"x^{t - 1}"
    if source in nodes:
        edges.append(Edge(source, f"fed{t}", "feedback"))
    edges.append(Edge(f"fed{t}", f"enc{t}", "generation"))


def _condition(nodes: dict[str, Node], t: int, condition_at: str) -> None:
    which = t - 1 if condition_at == "previous" else t
    _place(nodes, f"c{t}", f"c_{{{which}}}", t, 0, "condition", "given")


def _infer(nodes: dict[str, Node], edges: list[Edge], t: int, told: bool) -> None:
    """z_t ~ q_phi(z_t | x_{1:t}, c)"""
    _place(nodes, f"x{t}", f"x_{{{t}}}", t, RIGHT, "target", "given")
    _place(nodes, f"q{t}", r"\mathrm{LSTM}_\phi", t, RIGHT, "gaussian", "inference")
    _place(nodes, f"z{t}", f"z_{{{t}}}", t, RIGHT, "latent", "latent")
    edges.append(Edge(f"x{t}", f"q{t}", "inference", f"h_{{{t}}}"))
    edges.append(Edge(f"q{t}", f"z{t}", "inference"))
    if told:
        edges.append(Edge(f"c{t}", f"q{t}", "inference"))
    if t > 1:
        edges.append(Edge(f"q{t - 1}", f"q{t}", "inference"))


def _prior(nodes: dict[str, Node], edges: list[Edge], t: int, learned: bool, used: bool) -> None:
    """z_t ~ N(0, I), or p_psi(z_t | x_{0:t-1}, c), which runs along where z_t comes from q too."""
    text = r"\mathrm{LSTM}_\psi" if learned else r"\mathcal{N}(0, I)"
    side, level = (RIGHT, "gaussian") if used else (ASIDE, "unused prior")
    _place(nodes, f"p{t}", text, t, side, level, "prior")
    if used:
        _place(nodes, f"z{t}", f"z_{{{t}}}", t, RIGHT, "latent", "latent")
        edges.append(Edge(f"p{t}", f"z{t}", "prior"))
    if learned:
        edges += [Edge(f"{name}{t}", f"p{t}", "prior") for name in ("enc", "c")]
        if t > 1:
            edges.append(Edge(f"p{t - 1}", f"p{t}", "prior"))


def _advance(nodes: dict[str, Node], edges: list[Edge], t: int) -> None:
    """g_t = LSTM_theta(h_{t-1}, c_{t-1}, z_t)"""
    _place(nodes, f"lstm{t}", r"\mathrm{LSTM}_\theta", t, 0, "recurrent", "part")
    edges.append(Edge(f"enc{t}", f"lstm{t}", "generation", f"h_{{{t - 1}}}"))
    edges += [Edge(f"{name}{t}", f"lstm{t}", "generation") for name in ("c", "z")]
    if t > 1:
        edges.append(Edge(f"lstm{t - 1}", f"lstm{t}", "generation"))


def _decode(nodes: dict[str, Node], edges: list[Edge], t: int, source: int) -> None:
    """x^_t = Dec(g_t, skips)"""
    _place(nodes, f"dec{t}", r"\mathrm{Dec}", t, 0, "decoder", "part")
    _place(nodes, f"x^{t}", rf"\hat{{x}}_{{{t}}}", t, 0, "made", "made")
    edges.append(Edge(f"lstm{t}", f"dec{t}", "generation", f"g_{{{t}}}"))
    edges.append(Edge(f"dec{t}", f"x^{t}", "generation"))
    edges.append(Edge(f"enc{source}", f"dec{t}", "skip"))
