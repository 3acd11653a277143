"""csv files: every usual way of writing numbers is read, all else is an error with its row."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, note, settings
from hypothesis import strategies as st

from labkit.data.layout.tables import parse_table, read_table, write_table
from labkit.errors import DataError

ONE_TO_EIGHT = np.arange(1, 9, dtype=np.float32).reshape(2, 4)


@pytest.fixture
def table(tmp_path):
    """A function that writes a csv and returns its path."""

    def write(content: str | bytes) -> Path:
        file = tmp_path / "actions.csv"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    return write


SAME = {
    "plain": "1,2,3,4\n5,6,7,8\n",
    "no line end at the end": "1,2,3,4\n5,6,7,8",
    "Windows": "1,2,3,4\r\n5,6,7,8\r\n",
    "Windows twice over": "1,2,3,4\r\r\n5,6,7,8\r\r\n",
    "old Mac": "1,2,3,4\r5,6,7,8\r",
    "blank lines at the end": "1,2,3,4\n5,6,7,8\n\n  \n\t\n",
    "blanks around": " 1, 2 ,3\t, 4\n5 ,6, 7,8  \n",
    "scientific": "1e0,2.0E+00,300e-2,.4e1\n5.,+6,7.0,8e0\n",
    "blanks between": "1 2  3 4\n  5   6 7 8\n",
    "Matlab's ascii": "   1.0000000e+00   2.0000000e+00   3.0e+00   4.0e+00\n 5 6 7 8\n",
    "semicolons": "1;2;3;4\n5; 6;7 ;8\n",
    "tabs": "1\t2\t3\t4\n5\t6\t7\t8\n",
    "a separator at the end": "1,2,3,4,\n5,6,7,8, \n",
    "a header": "dx,dy,close_gripper,lift\n1,2,3,4\n5,6,7,8\n",
    "a header with blanks in it": "action 0, action 1, action 2, action 3\n1,2,3,4\n5,6,7,8\n",
    "a header as numpy writes it": "# dx dy close lift\n1 2 3 4\n5 6 7 8\n",
    "a header with units": "dx (m);dy (m);close;lift\n1;2;3;4\n5;6;7;8\n",
    "UTF-8 with a byte-order mark": "\ufeff1,2,3,4\n5,6,7,8\n",
    "the mark and a header": "\ufeffdx,dy,close,lift\r\n1,2,3,4\r\n5,6,7,8\r\n",
    "UTF-16, little end first": "\ufeff1\t2\t3\t4\r\n5\t6\t7\t8\r\n".encode("utf-16-le"),
    "UTF-16, big end first": "\ufeff1,2,3,4\n5,6,7,8\n".encode("utf-16-be"),
}


@pytest.mark.parametrize("name", SAME)
def test_every_usual_way_of_writing_reads_the_same(table, name):
    np.testing.assert_array_equal(read_table(table(SAME[name]), 2), ONE_TO_EIGHT)


FAULTS = {
    "empty": ("", None, "is empty"),
    "nothing but blanks": (" \n\r\n\t", None, "is empty"),
    "only a header": ("dx,dy,close,lift\n", 1, "a header and no numbers"),
    "text": ("hello\nworld\n", 2, "'world' is not a number"),
    "a number that is none": ("1,2,3,4\n1,2,three,4\n", 2, "'three' is not a number"),
    "a word in row 1": ("1,2,three,4\n1,2,3,4\n", 1, "'three' is not a number"),
    "two headers": ("a,b,c,d\nx,y,z,w\n1,2,3,4\n", 2, "'x' is not a number"),
    "a header in the middle": ("1,2,3,4\na,b,c,d\n", 2, "'a' is not a number"),
    "underscores": ("1,2,3_0,4\n", 1, "'3_0' is not a number"),
    "a missing number": ("1,2,,4\n", 1, "'' is not a number"),
    "a missing last number": ("1,2,3,4\n1,2,3,\n", 2, "'' is not a number"),
    "an empty row": ("1,2,3,4\n\n1,2,3,4\n", 2, "empty row"),
    "a row of commas": ("1,2,3,4\n,,,\n1,2,3,4\n", 2, "empty row"),
    "an empty row on top": ("\n1,2,3,4\n", 1, "empty row"),
    "3 columns": ("1,2,3,4\n1,2,3\n", 2, "has 3 columns"),
    "5 columns": ("1,2,3,4\r1,2,3,4,5\r", 2, "has 5 columns"),
    "another separator further down": ("1,2,3,4\n1;2;3;4\n", 2, "has 1 column"),
    "decimal commas": ("0,1;0,2;0,3;0,4\n", 1, "commas and semicolons"),
    "decimal commas below a header": ("a;b;c;d\n0,1;0,2;0,3;0,4\n", 2, "commas and semicolons"),
    "NaN": ("1,2,3,4\n1,2,nan,4\n", 2, "nan is not finite"),
    "NaN below a header": ("a,b,c,d\n1,2,3,4\n1,2,NaN,4\n", 3, "NaN is not finite"),
    "a first row of NaN": ("nan,nan,nan,nan\n1,2,3,4\n", 1, "not finite"),
    "infinity": ("1,2,-inf,4\n", 1, "-inf is not finite"),
    "beyond float32": ("1,2,1e39,4\n", 1, "1e39 is not finite"),
    "pandas' index": (",dx,dy,close,lift\n0,9,2,3,4\n1,9,6,7,8\n", 2, "counts the rows"),
    "an index from 1": (",dx,dy,close,lift\n1,9,2,3,4\n2,9,6,7,8\n", 2, "counts the rows"),
    "an index without a header": ("0,9,2\n1,9,6\n2,9,7\n", 1, "counts the rows"),
    "binary": (b"\x80\x81\x82", None, "not a text file"),
    "zeros": (b"1,2,3,4\n\0\0\0", None, "not a text file"),
    "half of UTF-16": (b"\xff\xfe\x00", None, "not a text file"),
    "UTF-16 without its mark": ("1,2,3,4\n".encode("utf-16-le"), None, "not a text file"),
    "Latin letters": ("größe,b,c,d\n1,2,3,4".encode("latin-1"), None, "not a text file"),
    "a page": ("<!DOCTYPE html>\n<html>\n", 2, "is not a number"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_with_its_row_and_what_mends_it(table, name):
    content, row, words = FAULTS[name]
    file = table(content)
    with pytest.raises(DataError, match=words) as caught:
        read_table(file)
    assert (caught.value.file, caught.value.row) == (file, row)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_the_index_of_pandas_is_mended_by_its_option(table):
    with pytest.raises(DataError, match="index=False"):
        read_table(table(",a,b,c,d\n0,1,2,3,4\n1,5,6,7,8\n"))
    # Five columns that do not count the rows are something else.
    assert read_table(table("a,b,c,d,e\n7,1,2,3,4\n1,5,6,7,8\n")).shape == (2, 5)


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("dx,dy,close", ("dx", "dy", "close")),
        ("# joint 1, joint 2, joint 3", ("joint 1", "joint 2", "joint 3")),
        ('"a","b","c"', ("a", "b", "c")),
        ("a,b,c,", ("a", "b", "c")),
        ("a,a,b", None),  # whichever is meant
        ("two,names", None),
        ("1,2,3", None),
    ],
)
def test_a_header_names_the_columns(table, header, names):
    parsed = parse_table(table(f"{header}\n1,2,3\n4,5,6\n"))
    assert parsed.names == names
    assert parsed.values.shape == (3 if header == "1,2,3" else 2, 3)


def test_names_that_are_written_read_back(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(3, 2) * 1.5
    write_table(tmp_path / "a.csv", values, ("joint 1", "joint 2"))
    parsed = parse_table(tmp_path / "a.csv")
    assert parsed.names == ("joint 1", "joint 2")
    np.testing.assert_array_equal(parsed.values, values)


@pytest.mark.parametrize(
    ("content", "row", "words"),
    [
        ("1,2,3,4\n5,6,7,8\n", 3, "2 rows for 3 frames"),
        ("1,2,3,4\n" * 4, 4, "4 rows for 3 frames"),
        ("a,b,c,d\n1,2,3,4\n5,6,7,8\n", 4, "2 rows below its header for 3 frames"),
        ("0,1,2,3\n" + "1,2,3,4\n" * 3, 1, "header=False"),
    ],
)
def test_another_number_of_rows_is_told_by_the_files_own_rows(table, content, row, words):
    with pytest.raises(DataError, match=words) as caught:
        read_table(table(content), 3)
    assert caught.value.row == row


def test_a_first_row_of_0_1_2_3_is_numbers_where_the_rows_fit(table):
    read = read_table(table("0,1,2,3\n4,5,6,7\n"), 2)
    np.testing.assert_array_equal(read, np.arange(8, dtype=np.float32).reshape(2, 4))


def test_a_huge_file_is_refused_unread(tmp_path):
    file = tmp_path / "actions.csv"
    with file.open("wb") as stream:
        stream.truncate(1 << 40)  # a terabyte of nothing, which takes no room
    with pytest.raises(DataError, match="1,099,511,627,776 bytes"):
        read_table(file)


def forbids(monkeypatch, file):
    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    file.write_text("1,2,3,4\n")
    monkeypatch.setattr("labkit.data.layout.plain_files.os.open", refuse)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda patch, file: None, "no such file"),
        (lambda patch, file: file.mkdir(), "is a folder"),
        (lambda patch, file: os.symlink(file, file), "link that leads in a circle"),
        (lambda patch, file: os.symlink("nowhere", file), "link to nothing"),
        (lambda patch, file: os.mkfifo(file), "is a pipe"),
        (forbids, "may not be read"),
    ],
)
def test_what_is_no_plain_file_is_named(tmp_path, monkeypatch, make, words):
    make(monkeypatch, tmp_path / "actions.csv")
    with pytest.raises(DataError, match=words) as caught:
        read_table(tmp_path / "actions.csv")
    assert caught.value.hint


def test_a_link_to_a_table_is_followed_whatever_its_name(tmp_path):
    file = tmp_path / ("año 机器人 " + "x" * 200)
    file.write_text("1,2,3,4\n5,6,7,8\n")
    (tmp_path / "actions.csv").symlink_to(file)
    np.testing.assert_array_equal(read_table(tmp_path / "actions.csv"), ONE_TO_EIGHT)


# ------------------------------------------------------------------------------- properties

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
rows = st.lists(st.lists(finite, min_size=4, max_size=4), min_size=1, max_size=6)
seeds = st.integers(0, 2**32)


@settings(max_examples=50, deadline=None)
@given(rows)
def test_any_float32_reads_back_exactly(tmp_path_factory, values):
    file = tmp_path_factory.mktemp("csv") / "actions.csv"
    write_table(file, np.array(values, np.float32))
    read = read_table(file, len(values))
    assert read.tobytes() == np.array(values, np.float32).tobytes()


PIECES = [
    *("0", "1", "-2.5", "3e-4", "1e39", "nan", "-inf", "1_0", "٣", "dx", "?", '"1"', "0x1"),
    *(",", ";", "\t", " ", "\n", "\r\n", "\r", "\n\n", ",\n"),
    *("\ufeff", "\0", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u00a0", "\ud7ff"),
]
"""what is put into a good table"""

ENCODINGS = ["utf-8"] * 4 + ["utf-8-sig", "utf-16", "utf-16-be", "latin-1"]


def mutated(values: list[list[float]], seed: int) -> bytes:
    """A table written in one of the usual ways, its text changed at some places, then its bytes."""
    draw = random.Random(seed)
    part = draw.choice([",", ",", ", ", ";", "\t", "  "])
    end = draw.choice(["\n", "\r\n", "\r"])
    text = part.join("abcd") + end if draw.random() < 0.5 else ""
    text += "".join(part.join(f"{cell:.9g}" for cell in row) + end for row in values)
    for _ in range(draw.choice([0, 1, 1, 2, 5])):
        place = draw.randrange(len(text) + 1)
        text = text[:place] + draw.choice(PIECES) + text[place + draw.choice([0, 0, 1, 3, 9]) :]
    data = bytearray(text.encode(draw.choice(ENCODINGS), errors="replace"))
    for _ in range(draw.choice([0, 0, 0, 1, 2])):
        data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data)


def assert_a_table_or_our_error(file: Path, data: bytes) -> bool:
    file.write_bytes(data)
    try:
        table = parse_table(file)
    except DataError as caught:
        fault = caught
    else:
        assert table.values.dtype == np.float32
        assert table.values.shape[1] >= 1
        assert table.names is None or len(table.names) == table.values.shape[1]
        assert len(table.values) >= 1
        assert np.isfinite(table.values).all()
        return True
    assert fault.file == file
    assert fault.hint
    assert fault.row is None or 1 <= fault.row <= data.count(b"\n") + data.count(b"\r") + 1
    assert len(str(fault).splitlines()) == 1
    return False


anything = st.one_of(
    st.binary(max_size=60), st.text("0123456789.,;-e\r\n\t _naif", max_size=60).map(str.encode)
)


@settings(max_examples=150, deadline=None)
@given(anything)
@example(b"\xff\xfe")
@example(b"\xef\xbb\xbf")
@example(b"a\n1,2,3,4")
def test_any_bytes_are_a_table_or_our_error(tmp_path_factory, data):
    assert_a_table_or_our_error(tmp_path_factory.getbasetemp() / "any.csv", data)


@settings(max_examples=20, deadline=None)
@given(rows, seeds)
def test_mutated_tables_are_tables_or_our_errors(tmp_path_factory, values, seed):
    assert_tables_or_our_errors(tmp_path_factory, values, range(seed, seed + 20))


@pytest.mark.fuzz
@settings(max_examples=500, deadline=None)
@given(rows, seeds)
def test_ten_thousand_mutated_tables_are_tables_or_our_errors(tmp_path_factory, values, seed):
    assert_tables_or_our_errors(tmp_path_factory, values, range(seed, seed + 20))


def assert_tables_or_our_errors(tmp_path_factory, values, seeds):
    file = tmp_path_factory.getbasetemp() / "mutated.csv"
    for seed in seeds:
        data = mutated(values, seed)
        note(f"{data!r}")
        assert_a_table_or_our_error(file, data)


def test_mutation_leaves_some_tables_readable_and_breaks_others(tmp_path):
    """The properties above would hold as well if nothing could be read, or all."""
    tables = [mutated(ONE_TO_EIGHT.tolist(), seed) for seed in range(200)]
    read = [assert_a_table_or_our_error(tmp_path / "a.csv", data) for data in tables]
    assert 20 < sum(read) < 180
