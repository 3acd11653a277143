"""What two students' submissions have in common: weights, code, texts. Each finding names both, and
says what an honest explanation could be."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from labkit.course.grade_notebooks import LONG
from labkit.course.grade_run import RunResult
from labkit.course.grade_submission import Graded
from labkit.course.handed_out import HandedOut

NEAR = 0.02
"""relative difference of two sketches below which weights are nearly equal"""
MOST = 20
"""findings of one submission"""


def similarities(results: Sequence[Graded], handed: HandedOut) -> dict[str, list[str]]:
    """Findings by the submission's file. What was handed out does not count.

    Args:
        results: of all submissions.
        handed: the exercises' solutions and the lab's own runs.
    """
    found: dict[str, list[str]] = defaultdict(list)
    given = {each for book in handed.notebooks.values() for each in book.solutions.values()}
    near = _near_runs(results, handed)
    for one, other in itertools.combinations(results, 2):
        if one.student_id and one.student_id.casefold() == other.student_id.casefold():
            continue
        said = list(_of_pair(one, other, given))
        said += near.get((one.file, other.file), [])
        for here, there in ((one, other), (other, one)):
            found[here.file] += [f"{what} as {_called(there)}: {more}" for what, more in said]
    return {file: _shortened(said) for file, said in found.items() if said}


def _called(result: Graded) -> str:
    return f"{result.student_id} ({result.file})" if result.student_id else result.file


def _shortened(said: list[str]) -> list[str]:
    more = len(said) - MOST
    return said if more <= 0 else [*said[:MOST], f"and {more} more similarities."]


def _of_pair(one: Graded, other: Graded, given: set[str]) -> Iterator[tuple[str, str]]:
    """(what is equal, what it can mean)."""
    if one.zip_sha256 and one.zip_sha256 == other.zip_sha256:
        yield "The same zip", "one is a copy of the other."
        return
    for notebook in sorted(one.written.keys() & other.written.keys()):
        mine, theirs = one.written[notebook], other.written[notebook]
        equal = [
            name
            for name, (digest, letters) in mine.items()
            if theirs.get(name, ("", 0))[0] == digest and letters >= LONG and digest not in given
        ]
        if equal:
            which = ", ".join(equal)
            yield (
                f"The same code of {which} in {notebook}",
                "equal but for comments and layout. Short code can be equal by chance.",
            )
    texts = [part for part, digest in one.texts.items() if other.texts.get(part) == digest]
    if texts:
        yield f"The same text in the report ({', '.join(texts)})", "word by word."


# ---------------------------------------------------------------------------------- weights


def _near_runs(
    results: Sequence[Graded], handed: HandedOut
) -> Mapping[tuple[str, str], list[tuple[str, str]]]:
    """For each pair of submissions, in their order: runs with equal or nearly equal weights."""
    runs = [
        (result, run)
        for result in results
        for run in result.runs
        if run.tensors_sha256 and run.tensors_sha256 not in handed.runs
    ]
    found: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for place, (result, run) in enumerate(runs):
        for other, same in _nearest(run, runs[place + 1 :]):
            if other.file != result.file:
                found[result.file, other.file].append(_about(run, same))
    return found


def _nearest(
    run: RunResult, others: Sequence[tuple[Graded, RunResult]]
) -> Iterator[tuple[Graded, RunResult]]:
    """Those whose weights are equal or nearly equal."""
    mine = np.array(run.sketch)
    for result, other in others:
        if other.tensors_sha256 == run.tensors_sha256:
            yield result, other
        elif (
            len(mine)
            and len(other.sketch) == len(mine)
            and run.settings.get("model") == other.settings.get("model")
        ):
            apart = np.linalg.norm(mine - np.array(other.sketch))
            if apart < NEAR * np.linalg.norm(mine):
                yield result, other


def _about(run: RunResult, other: RunResult) -> tuple[str, str]:
    equal = run.tensors_sha256 == other.tensors_sha256
    names = run.name if run.name == other.name else f"{run.name} and {other.name}"
    what = f"{'The same' if equal else 'Nearly the same'} weights ({names})"
    if _trained_as(run) == _trained_as(other):
        return what, (
            "the settings and the seed are the same too. The same preset and seed on the same data "
            "give the same weights in honest work too, on machines of one kind."
        )
    return what, (
        "their settings or seeds differ, and two such trainings do not end with the same weights."
    )


def _trained_as(run: RunResult) -> dict[str, object]:
    """The settings that change the weights: all but the folder of the data."""
    settings = dict(run.settings)
    settings["data"] = {k: v for k, v in settings.get("data", {}).items() if k != "root"}
    return settings
