"""Rows from samples, files and signatures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headway.domain.errors import InvalidInput
from headway.domain.load_rows import MOST_DISTINCT, bodies, rows_of_file, rows_of_sample, rows_of_signature


def test_a_sample_of_rows_is_taken_apart_and_any_other_is_not() -> None:
    assert rows_of_sample(b"[[1, 2], [3, 4]]") == [[1, 2], [3, 4]]
    assert rows_of_sample(b'[{"a": 1}]') == [{"a": 1}]
    for other in (b"{}", b"[]", b"[1, 2]", b"no JSON", b"[" * 100_000):
        assert rows_of_sample(other) is None


@pytest.mark.parametrize(
    ("content", "name", "rows"),
    [
        (b"a,b\n1,2.5\n3,x\n,true\nnan,4\n", "d.csv", [[1, 2.5], [3, "x"], [None, True], [None, 4]]),
        (b"[[1], [2]]", "d.json", [[1], [2]]),
        (b'{"a": 1}', "d.json", [{"a": 1}]),
        (b"[1]\n\n[2]\n", "d.jsonl", [[1], [2]]),
    ],
)
def test_files_of_all_kinds(content: bytes, name: str, rows: list[Any]) -> None:
    found = rows_of_file(content, name)
    assert [list(row.values()) if isinstance(row, dict) and name.endswith("csv") else row for row in found] == rows


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"", "d.csv", "no rows"),
        (b"a,b\n", "d.csv", "no rows"),
        (b"a,a\n1,2\n", "d.csv", "twice"),
        (b"a,b\n1\n", "d.csv", "1 cells under 2 columns"),
        (b"[]", "d.json", "no rows"),
        (b"[1, 2]", "d.json", "row 1 is no list"),
        (b"{", "d.json", "not JSON"),
        (b"[1]\n{", "d.jsonl", "not JSON"),
        (b"\xff", "d.csv", "UTF-8"),
        (b"a", "d.xls", "unknown kind"),
        (b'a\n"x', "d.csv", "not CSV"),
    ],
)
def test_a_file_without_usable_rows_is_refused(content: bytes, name: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        rows_of_file(content, name)


def test_rows_are_made_of_what_the_model_says_of_its_inputs() -> None:
    made = rows_of_signature({"inputs": [{"name": "X", "datatype": "FP64", "shape": [-1, 4]}]})
    assert made is not None
    assert {len(row) for row in made} == {4}
    assert len({json.dumps(row) for row in made}) > 50
    columns = [
        {"name": name, "datatype": kind, "shape": [-1, 1]}
        for name, kind in (("age", "INT64"), ("name", "BYTES"), ("new", "BOOL"))
    ]
    records = rows_of_signature({"inputs": columns})
    assert records is not None
    assert [type(value) for value in records[0].values()] == [int, str, bool]
    unknowns: list[dict[str, Any]] = [{}, {"inputs": []}, {"inputs": [{"name": "X", "shape": [-1, -1]}]}]
    assert [rows_of_signature(unknown) for unknown in unknowns] == [None] * 3


def test_bodies_take_rows_in_turn() -> None:
    assert bodies([[1], [2], [3]], [1, 2, 1]) == [b"[[1]]", b"[[2],[3]]", b"[[1]]"]


def test_of_many_bodies_so_many_are_distinct_and_each_has_its_size() -> None:
    sizes = [1, 2, 1, 3] * MOST_DISTINCT
    made = bodies([[number] for number in range(50_000)], sizes)
    assert [len(json.loads(body)) for body in made[:400]] == sizes[:400]
    assert MOST_DISTINCT / 2 < len(set(made)) <= MOST_DISTINCT
    assert len({id(body) for body in made}) == len(set(made))


@pytest.mark.parametrize(("name", "where"), [("rows.jsonl", "rows.jsonl:2"), ("rows.json", "rows.json")])
def test_numbers_that_json_does_not_have_are_refused(name: str, where: str) -> None:
    text = "[1]\n[NaN]" if name.endswith("l") else "[[1], [-Infinity]]"
    with pytest.raises(InvalidInput, match=r"JSON has no (NaN|-Infinity)") as refused:
        rows_of_file(text.encode(), name)
    assert refused.value.where == where
