"""An evaluation's files are data: whatever is in them, reading them ends in an evaluation or in one
sentence."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

from labkit.errors import RunError
from labkit.evaluation import Evaluation
from labkit.evaluation.regions import RegionScores


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """A small evaluation on disk."""
    psnr = {name: np.full((2, 3), 20.0) for name in ("prediction", "prior_mean", "posterior")}
    counts = np.ones((2, 3, 3))
    file = tmp_path_factory.mktemp("stored") / "evaluation.json"
    Evaluation(
        protocol="protocol frame: by hand",
        name="frame",
        n_past=2,
        best_of=1,
        scores={"psnr": psnr, "channel_psnr": psnr, "ssim": psnr},
        samples_psnr=np.full((2, 2), 20.0),
        deviation=np.full((2, 3), 1.0),
        regions=RegionScores(counts, {"prediction": counts}, {"prediction": counts}, counts),
        clip_ids=np.array(["a", "b"]),
        clip_numbers=np.arange(2),
        starts=np.zeros(2, np.int64),
        examples=dict.fromkeys(
            ("truth", "prediction", "posterior"), np.zeros((1, 5, 3, 8, 8), np.uint8)
        ),
        made_with={"weights": "ab"},
        notes=("A note.",),
    ).save(file)
    return file


@pytest.fixture
def file(stored, tmp_path) -> Path:
    for ending in (".json", ".npz"):
        (tmp_path / f"evaluation{ending}").write_bytes(stored.with_suffix(ending).read_bytes())
    return tmp_path / "evaluation.json"


def refusal(file: Path) -> str:
    with pytest.raises(RunError) as caught:
        Evaluation.load(file)
    assert "\n" not in str(caught.value)
    assert "run labkit evaluate" in str(caught.value)
    return str(caught.value)


def changed(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def with_arrays(file: Path, data: bytes) -> None:
    """Other arrays, with the digest that belongs to them."""
    file.with_suffix(".npz").write_bytes(data)
    changed(file, arrays=hashlib.sha256(data).hexdigest())


def test_what_is_whole_is_read(file) -> None:
    assert Evaluation.load(file).name == "frame"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[]", "not a list"),
        (b"3", "not a int"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"format": "\xff\xfe"}', "codec can't decode"),
        (b"", "Expecting value"),
        (b'{"format": 1}', "of an older labkit"),
        (b'{"format": 2}', "arrays is missing"),
    ],
)
def test_a_summary_that_is_none(file, text, words) -> None:
    file.write_bytes(text)
    assert words in refusal(file)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"n_past": "2"}, "n_past is '2'"),
        ({"best_of": 0}, "best_of is 0"),
        ({"seed": None}, "seed is None"),
        ({"protocol": 7}, "a text is expected"),
        ({"notes": [["deep"]]}, "a text is expected"),
        ({"made_with": "x"}, "'str' object"),
        ({"arrays": 5}, "of another evaluation"),
    ],
)
def test_values_of_the_wrong_type(file, values, words) -> None:
    changed(file, **values)
    assert words in refusal(file)


def test_arrays_that_do_not_fit(file) -> None:
    with np.load(file.with_suffix(".npz")) as found:
        arrays = {name: found[name] for name in found.files}
    for name, values, words in (
        ("scores.psnr.prior_mean", np.zeros((2, 4)), "psnr.prior_mean is float64 (2, 4)"),
        ("scores.psnr.prior_mean", np.zeros((2, 3), int), "psnr.prior_mean is int64"),
        ("clip_numbers", np.arange(3), "not of the same clips"),
        ("regions.count", np.zeros((2, 3, 4)), "the regions"),
        ("examples.truth", np.zeros((1, 2)), "not frames"),
        ("more", np.zeros(1), "unknown values 'more'"),
    ):
        packed = io.BytesIO()
        np.savez(packed, **arrays | {name: values})
        with_arrays(file, packed.getvalue())
        assert words in refusal(file)


def test_a_header_that_claims_terabytes(file) -> None:
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        member, {"descr": "<f8", "fortran_order": False, "shape": (2**20, 2**21)}
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("samples_psnr.npy", member.getvalue())
    with_arrays(file, packed.getvalue())
    assert "smaller than its header says" in refusal(file)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_not_waited_for(file) -> None:
    file.unlink()
    os.mkfifo(file)
    assert "a pipe or a device" in refusal(file)


@pytest.mark.fuzz
def test_two_thousand_mutations_end_in_an_evaluation_or_in_a_sentence(file) -> None:
    random.seed(0)
    whole = {ending: file.with_suffix(ending).read_bytes() for ending in (".json", ".npz")}
    read = refused = 0
    sentences = set()
    for number in range(2000):
        ending = ".json" if number % 2 else ".npz"
        data = bytearray(whole[ending])
        for _ in range(random.choice([1, 1, 2, 5, 20])):
            place = random.randrange(len(data))
            kind = random.randrange(4)
            if kind == 0:
                data[place] = random.randrange(256)
            elif kind == 1:
                del data[place : place + random.randrange(1, 40)]
            elif kind == 2:
                data[place:place] = random.choice([b"[", b"{", b"null", b"1e999", b"\xff", b'"'])
            else:
                data[place:place] = data[place : place + random.randrange(1, 80)]
            if not data:
                break
        file.write_bytes(whole[".json"])
        file.with_suffix(".npz").write_bytes(whole[".npz"])
        if ending == ".npz":  # with the digest that belongs to it, or it would not be opened
            with_arrays(file, bytes(data))
        else:
            file.write_bytes(bytes(data))
        try:
            json.dumps(Evaluation.load(file).summary(), allow_nan=False)
            read += 1
        except RunError as error:
            refused += 1
            sentences.add(str(error))
    assert read > 50
    assert refused > 500
    assert not any("\n" in sentence for sentence in sentences)
