"""Whatever a data frame holds goes through a real R and comes back as it was."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.server import r_serial
from headway.server.inputs import Table
from headway.server.r_columns import Feature, frame
from headway.server.r_process import RProcess
from headway.server.r_results import Frame, result_of
from headway.server.r_serial import NA_REAL, RValue, is_na

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
DOUBLES = st.floats(width=64) | st.sampled_from([math.nan, NA_REAL, math.inf, -math.inf, -0.0, 5e-324])
WHOLE = st.integers(-(2**31) + 1, 2**31 - 1)
INSTANTS = st.datetimes(timezones=st.just(datetime.UTC)).filter(lambda t: 1 < t.year < 9999)
LEVELS = ("setosa", "versicolor", "Königin", "")


def _prototype(kind: str, **attributes: list[str]) -> RValue:
    return RValue(kind, [], {name: RValue("character", values) for name, values in attributes.items()})


FEATURES = (
    Feature("d", _prototype("double")),
    Feature("i", _prototype("integer")),
    Feature("l", _prototype("logical")),
    Feature("s", _prototype("character")),
    Feature("f", _prototype("integer", levels=list(LEVELS), **{"class": ["factor"]})),
    Feature("day", _prototype("double", **{"class": ["Date"]})),
    Feature("t", _prototype("double", **{"class": ["POSIXct", "POSIXt"]}, tzone=["Europe/Berlin"])),
)
ROWS = st.tuples(
    DOUBLES | st.none(),
    WHOLE | st.none(),
    st.booleans() | st.none(),
    TEXTS | st.none(),
    st.sampled_from(LEVELS) | st.none(),
    st.dates().map(datetime.date.isoformat) | st.none(),
    INSTANTS.map(datetime.datetime.isoformat) | st.none(),
)


@pytest.fixture(scope="module")
def r(rscript: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RProcess]:
    folder: Path = tmp_path_factory.mktemp("r")
    process = RProcess(rscript, folder, lambda _: None)
    yield process
    process.stop()


def _echo(process: RProcess, written: bytes) -> RValue | None:
    message = r_serial.HEADER + r_serial.items([r_serial.character(["echo"]), written])
    answer = r_serial.read(process.call(message))
    assert answer is not None
    status, value = answer.values
    assert status.values == ["ok"]
    found: RValue | None = value
    return found


def _equal(sent: Any, came: Any) -> bool:
    if sent is None and isinstance(came, float):
        return is_na(came)
    if isinstance(sent, float) and sent != sent:
        return bool(came != came) and is_na(sent) == is_na(came)
    if isinstance(sent, float):
        return isinstance(came, float) and sent == came and math.copysign(1, sent) == math.copysign(1, came)
    return type(sent) is type(came) and bool(sent == came)


@settings(max_examples=150)
@given(rows=st.lists(ROWS, max_size=8))
def test_a_frame_of_every_type_of_column_comes_back(r: RProcess, rows: list[tuple[Any, ...]]) -> None:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(FEATURES)
    result = result_of(_echo(r, frame(Table(None, columns, len(rows)), FEATURES)))
    assert isinstance(result, Frame)
    assert (result.columns, result.shape) == ([f.name for f in FEATURES], (len(rows), len(FEATURES)))
    for feature, sent in zip(FEATURES, columns, strict=True):
        came = list(result[feature.name])
        if feature.name == "t":
            sent = tuple(text and text.replace("+00:00", "Z") for text in sent)
            assert [_near(s, c) for s, c in zip(sent, came, strict=True)] == [True] * len(sent)
        else:
            assert all(_equal(s, c) for s, c in zip(sent, came, strict=True)), (feature.name, sent, came)


def _near(sent: str | None, came: str | None) -> bool:
    """R counts seconds in float64: exact to a microsecond for 285 years around 1970, to 31 of them in the year 9998."""
    if sent is None or came is None:
        return sent is came
    one, other = map(datetime.datetime.fromisoformat, (sent, came))
    return abs(one - other) <= datetime.timedelta(microseconds=31)


@settings(max_examples=100)
@given(
    rows=st.lists(st.tuples(DOUBLES | st.none(), TEXTS | st.none(), st.booleans() | st.none()), min_size=1, max_size=8)
)
def test_what_a_column_holds_makes_its_type(r: RProcess, rows: list[tuple[Any, ...]]) -> None:
    columns = list(zip(*rows, strict=True))
    came = _echo(r, frame(Table(("x", "a name", "é"), columns, len(rows)), None))
    assert came is not None
    assert came.strings("names") == ("x", "a name", "é")
    for sent, value, kind in zip(columns, came.values, ("double", "character", "logical"), strict=True):
        assert value.kind == (kind if set(sent) != {None} else "double")
        assert all(_equal(s, c) for s, c in zip(sent, value.values, strict=True))


JSON = st.recursive(
    st.none() | st.booleans() | WHOLE | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS.filter(bool), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100)
@given(value=st.dictionaries(TEXTS.filter(bool), JSON, min_size=1, max_size=4))
def test_json_objects_are_lists_by_name(r: RProcess, value: dict[str, Any]) -> None:
    came = result_of(_echo(r, r_serial.value_of(value)))
    assert came == {name: _as_vectors(item) for name, item in value.items()}


def _as_vectors(value: Any) -> Any:
    """In R there are no scalars, and numbers of one vector are of one type."""
    if isinstance(value, dict):
        return {name: _as_vectors(item) for name, item in value.items()} or []
    if not isinstance(value, list):
        return None if value is None else [value]
    kinds = {float if type(item) is int else type(item) for item in value} - {type(None)}
    if len(kinds) == 1 and not kinds & {list, dict}:
        numbers = kinds == {float} and any(type(item) is float for item in value)
        return [_Missing() if numbers and item is None else item for item in value]
    return [_as_vectors(item) for item in value]


class _Missing:
    """Equal to NA among numbers."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and is_na(other)

    __hash__ = None  # type: ignore[assignment]


@settings(max_examples=100)
@given(data=st.binary(max_size=200))
def test_bytes_that_are_no_message_are_refused_and_nothing_else(data: bytes) -> None:
    for tail in (data, r_serial.HEADER + data):
        try:
            r_serial.read(tail)
        except r_serial.NoData:
            continue


@settings(max_examples=60)
@given(rows=st.lists(ROWS, min_size=1, max_size=3), cut=st.integers(0, 400))
def test_a_message_that_is_cut_off_is_refused(rows: list[tuple[Any, ...]], cut: int) -> None:
    columns = list(zip(*rows, strict=True))
    whole = r_serial.HEADER + frame(Table(None, columns, len(rows)), FEATURES)
    with pytest.raises(r_serial.NoData):
        r_serial.read(whole[: min(cut, len(whole) - 1)])
