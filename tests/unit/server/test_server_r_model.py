"""What of R models needs no R: declared packages, columns that are told, results, the program that is looked for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy
import pytest

from headway.domain.errors import InvalidRequest, LoadFailed, MissingBinary
from headway.server import r_packages, r_serial
from headway.server.inputs import Table
from headway.server.model import InputKind
from headway.server.placement import Placement
from headway.server.r_columns import Feature, features_of, frame
from headway.server.r_process import environment, find_rscript
from headway.server.r_results import Frame, result_of, unboxed
from headway.server.r_serial import RValue
from headway.server.results import split, to_plain
from headway.server.tabular import tabular


def vector(kind: str, values: list[Any], **attributes: RValue) -> RValue:
    return RValue(kind, values, dict(attributes))


def text(*values: str) -> RValue:
    return RValue("character", list(values))


# -- R-packages.txt ----------------------------------------------------------------------------------


def test_packages_are_named_with_or_without_a_version() -> None:
    needs = r_packages.parse("# ours\n\njsonlite (>= 1.8)\nglmnet   # fast\nR (>= 4.1)\ndata.table==1.14.8\n")
    assert [str(need) for need in needs] == ["jsonlite (>= 1.8)", "glmnet", "R (>= 4.1)", "data.table (== 1.14.8)"]
    assert [need.where for need in needs] == [f"R-packages.txt:{line}" for line in (3, 4, 5, 6)]


@pytest.mark.parametrize(
    "line", ["json lite", "jsonlite (1.8)", "jsonlite (>= x)", "jsonlite ()", "-r x", "a (> 1", "é"]
)
def test_what_names_no_package_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(LoadFailed) as caught:
        r_packages.parse(f"stats\n{line}\n")
    assert caught.value.where == "R-packages.txt:2"


@pytest.mark.parametrize(
    ("operator", "allowed"), [(">=", {0, 1}), ("<=", {0, -1}), ("==", {0}), (">", {1}), ("<", {-1}), (None, {-1, 0, 1})]
)
def test_versions_are_compared(operator: str | None, allowed: set[int]) -> None:
    need = r_packages.Need("x", "R-packages.txt:1", operator, None if operator is None else "1.0")
    assert {result for result in (-1, 0, 1) if need.allows(result)} == allowed


def test_missing_and_old_packages_are_named_with_what_to_do() -> None:
    needs = r_packages.parse("Rcpp\nMASS (>= 8.0)\nR (>= 3)\n")
    r_packages.check(needs, ["1.0", "8.1", "4.2.2"], [0, 1, 1])
    with pytest.raises(LoadFailed) as caught:
        r_packages.check(needs, [None, "7.3", "4.2.2"], [0, -1, 1])
    assert caught.value.message == "R packages are missing: Rcpp; MASS (>= 8.0) is needed, 7.3 is installed"
    assert caught.value.hint is not None
    assert 'apt-get install r-cran-rcpp r-cran-mass; or in R: install.packages(c("Rcpp", "MASS"))' in caught.value.hint
    with pytest.raises(LoadFailed, match="another R in HEADWAY_RSCRIPT"):
        r_packages.check(needs[2:], ["2.9"], [-1])


# -- the program --------------------------------------------------------------------------------------


def test_the_named_program_counts_and_nothing_else(tmp_path: Path) -> None:
    program = tmp_path / "Rscript"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert find_rscript({"PATH": str(tmp_path)}) == str(program)
    assert find_rscript({"PATH": "", "HEADWAY_RSCRIPT": str(program)}) == str(program)
    with pytest.raises(MissingBinary, match="/no/R is not a program"):
        find_rscript({"PATH": str(tmp_path), "HEADWAY_RSCRIPT": "/no/R"})
    with pytest.raises(MissingBinary, match="apt-get install r-base-core"):
        find_rscript({"PATH": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({}, {"LC_CTYPE": "C.UTF-8"}),
        ({"LANG": "C"}, {"LC_CTYPE": "C.UTF-8"}),
        ({"LC_ALL": "de_DE.ISO-8859-1"}, {"LC_ALL": "C.UTF-8"}),
        ({"LANG": "de_DE.UTF-8"}, {}),
        ({"LC_ALL": "C.utf8", "LANG": "C"}, {}),
    ],
)
def test_text_is_utf_8_whatever_the_locale(given: dict[str, str], changed: dict[str, str]) -> None:
    assert environment(given) == {**given, **changed}


# -- rows in --------------------------------------------------------------------------------------------


def sent(table: Table, features: tuple[Feature, ...] | None = None) -> RValue:
    found = r_serial.read(r_serial.HEADER + frame(table, features))
    assert found is not None
    return found


def test_tensors_take_the_types_that_r_has() -> None:
    least = numpy.array([-(2**31), 5])
    columns = [least.astype("i4"), least.astype("i8") + 1, numpy.array([True, False]), numpy.array([2**53, 1], "u8")]
    found = sent(Table(None, columns, 2))
    assert [(c.kind, c.values) for c in found.values] == [
        ("double", [-(2.0**31), 5.0]),
        ("integer", [-(2**31) + 1, 6]),
        ("logical", [True, False]),
        ("double", [2.0**53, 1.0]),
    ]
    assert found.strings("names") == ("V1", "V2", "V3", "V4")
    assert found.attributes["row.names"] == vector("integer", [None, -2])
    for odd, words in (
        (numpy.array([2**53 + 1]), "beyond 2"),
        (numpy.array([b"\xff"], dtype=object), "not UTF-8"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            sent(Table(None, [odd], 1))


def test_told_columns_must_all_be_there_and_of_types_that_requests_can_bring() -> None:
    prototype = RValue("list", [vector("double", []), vector("raw", [])], {"names": text("x", "y")})
    with pytest.raises(ValueError, match="column y is a raw"):
        features_of(prototype)
    assert features_of(None) is None
    features = (Feature("x", vector("double", [])), Feature("n", vector("integer", [])))
    with pytest.raises(InvalidRequest, match="1 columns, the model takes 2: x, n"):
        sent(Table(None, [(1.0,)], 1), features)
    found = sent(Table(None, [numpy.array([1.5]), numpy.array([2.0])], 1), features)
    assert [(c.kind, c.values) for c in found.values] == [("double", [1.5]), ("integer", [2])]


def test_a_factor_takes_numbers_for_the_levels_that_are_written_so() -> None:
    cylinders = Feature("cyl", vector("integer", [], levels=text("4", "6"), **{"class": text("factor")}))
    found = sent(Table(None, [(4, 6.0, "6", None)], 4), (cylinders,))
    assert found.values[0].values == [1, 2, 2, None]
    assert found.values[0].strings("levels") == ("4", "6")
    with pytest.raises(InvalidRequest, match=r"5 is not one of its levels \(4, 6\)"):
        sent(Table(None, [(5,)], 1), (cylinders,))


def test_requests_share_a_call_whether_numbers_are_whole_or_missing() -> None:
    keys = [tabular(rows, ["a", "b"], InputKind.R_FRAME).key for rows in ([[1, "x"]], [[1.5, "y"]], [[None, "z"]])]
    assert len(set(keys)) == 1
    assert tabular([[True, "x"]], ["a", "b"], InputKind.R_FRAME).key != keys[0]
    for rows, words in (
        ([[1], ["x"]], "column 'a' mixes text"),
        ([[{}]], "column 'a' holds an object"),
        ([[[1]]], "column 'a' holds a list"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            tabular(rows, ["a"], InputKind.R_FRAME)


@pytest.mark.parametrize("value", ["a\0b", "\ud800", {"a": ["x", "\0"]}, [1e308, 10**400]])
def test_what_r_cannot_hold_is_no_data(value: Any) -> None:
    with pytest.raises(r_serial.NoData):
        r_serial.value_of(value)


# -- results out -------------------------------------------------------------------------------------------


def test_a_frame_is_split_among_requests_and_shown_by_every_format() -> None:
    factor = vector("integer", [1, 2, None], levels=text("a", "b"), **{"class": text("factor")})
    attributes = {"names": text("n", "f"), "class": text("data.frame"), "rows": vector("integer", [3])}
    value = RValue("list", [vector("integer", [1, None, 3]), factor], {**attributes})
    found = result_of(value)
    assert isinstance(found, Frame)
    parts = split(found, [1, 2])
    assert [to_plain(part) for part in parts] == [[{"n": 1, "f": "a"}], [{"n": None, "f": "b"}, {"n": 3, "f": None}]]
    numbers = found["n"].to_numpy()
    assert (numbers.dtype.kind, numbers[0], math.isnan(numbers[1])) == ("f", 1.0, True)
    assert found["f"].to_numpy().tolist() == ["a", "b", None]
    assert list(found) == found.columns == ["n", "f"]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (vector("double", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], dim=vector("integer", [2, 3])), [[1, 3, 5], [2, 4, 6]]),
        (vector("double", [float(n) for n in range(8)], dim=vector("integer", [2, 2, 2])),
         [[[0, 4], [2, 6]], [[1, 5], [3, 7]]]),
        (vector("double", [1.5, -1.5], **{"class": text("Date")}), ["1970-01-02", "1969-12-30"]),
        (vector("double", [0.25, math.inf], **{"class": text("POSIXct")}), ["1970-01-01T00:00:00.250000Z", None]),
        (vector("double", [2.0], units=text("hours"), **{"class": text("difftime")}), [7200.0]),
        (vector("double", [5e-324, -0.0], **{"class": text("integer64")}), [1, None]),
        (RValue("list", [vector("double", [1.0]), None], {"names": text("a", "")}), {"a": [1.0], "2": None}),
        (RValue("list", [text("x")]), [["x"]]),
    ],
)  # fmt: skip
def test_vectors_matrices_dates_and_lists_are_plain(value: RValue, plain: Any) -> None:
    assert result_of(value) == plain


def test_a_date_without_a_form_is_a_fault_of_the_model() -> None:
    for kind in ("Date", "POSIXct"):
        with pytest.raises(ValueError, match="outside of the years 1 to 9999"):
            result_of(vector("double", [1e15], **{"class": text(kind)}))


def test_what_is_no_prediction_is_unboxed() -> None:
    value = RValue(
        "list", [text("COUNTER"), vector("double", [1.0]), text("a", "b")], {"names": text("type", "v", "w")}
    )
    assert unboxed(value) == {"type": "COUNTER", "v": 1.0, "w": ["a", "b"]}
    assert unboxed(None) is None


def test_a_model_in_another_process_is_never_called_on_the_loop() -> None:
    placement = Placement(elsewhere=True)
    for _ in range(100):
        placement.observe(0.0001)
    assert not placement.on_loop
