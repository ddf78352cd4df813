"""Whatever body comes on whatever route: no 5xx, an error of the tree, and the next good request is answered.

The model is a real scikit-learn classifier, which refuses what it does not know in its own words.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from tests.unit.server.bench import Bench

PREDICT, INVOKE, SELDON, INFER = "/predict", "/invocations", "/api/v1.0/predictions", "/v2/models/iris/infer"
GOOD: dict[str, Any] = {
    PREDICT: [[5.1, 3.5, 1.4, 0.2]],
    INVOKE: {"dataframe_split": {"columns": ["a", "b", "c", "d"], "data": [[5.1, 3.5, 1.4, 0.2]]}},
    SELDON: {"meta": {}, "data": {"names": ["a", "b", "c", "d"], "ndarray": [[5.1, 3.5, 1.4, 0.2]]}},
    INFER: {"inputs": [{"name": "X", "datatype": "FP64", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]},
}

WORDS = [
    "data",
    "names",
    "ndarray",
    "tensor",
    "shape",
    "values",
    "meta",
    "strData",
    "jsonData",
    "binData",
    "instances",
    "columns",
    "inputs",
    "outputs",
    "name",
    "datatype",
    "parameters",
    "dataframe_split",
    "dataframe_records",
    "params",
    "index",
    "id",
]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["data", "ndarray", "instances", "FP32", "BYTES", "BOOL", "INT64"]),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5) | st.sampled_from(WORDS), inner, max_size=4)
    ),
    max_leaves=12,
)


@cache
def classifier() -> LogisticRegression:
    random = np.random.default_rng(7)
    x = random.normal(size=(60, 4))
    return LogisticRegression().fit(x, (x[:, 0] > 0).astype(int) + (x[:, 1] > 0))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place within a JSON value."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@st.composite
def near_misses(draw: st.DrawFn) -> tuple[str, bytes]:
    """A good body with one place in it replaced."""
    route = draw(st.sampled_from(list(GOOD)))
    path = draw(st.sampled_from(places(GOOD[route])))
    return route, json.dumps(replaced(GOOD[route], path, draw(values))).encode()


def check(route: str, body: bytes, **headers: str) -> None:
    async def main() -> None:
        bench = Bench(classifier(), max_body_bytes=10_000)
        await bench.predict(GOOD[PREDICT])
        status, answer = await bench.ask(body, route, "POST", **headers)
        assert status < 500, answer
        if status >= 400:
            assert "error" in answer
        await bench.predict(GOOD[PREDICT])

    asyncio.run(main())


@pytest.mark.parametrize("route", GOOD)
def test_the_good_bodies_are_good(route: str) -> None:
    async def main() -> None:
        assert (await Bench(classifier()).ask(GOOD[route], route))[0] == 200

    asyncio.run(main())


@settings(max_examples=300)
@given(near_misses())
def test_a_body_with_one_thing_changed_is_answered_or_refused(case: tuple[str, bytes]) -> None:
    check(*case)


@settings(max_examples=150)
@given(st.sampled_from(list(GOOD)), values)
def test_any_json_is_answered_or_refused(route: str, value: Any) -> None:
    check(route, json.dumps(value).encode())


@settings(max_examples=150)
@given(st.sampled_from(list(GOOD)), st.binary(max_size=200), st.data())
def test_any_bytes_are_refused(route: str, noise: bytes, data: st.DataObject) -> None:
    good = json.dumps(GOOD[route]).encode()
    start = data.draw(st.integers(0, len(good)))
    length = data.draw(st.integers(0, 20))
    check(route, good[:start] + noise + good[start + length :])


@settings(max_examples=60)
@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate"]), st.booleans())
def test_any_compressed_bytes_are_refused_or_read(noise: bytes, coding: str, good: bool) -> None:
    body = gzip.compress(json.dumps(GOOD[PREDICT]).encode()) if good else b""
    check(PREDICT, body + noise, content_encoding=coding)


@settings(max_examples=60)
@given(st.text(max_size=60), st.lists(st.lists(st.text('0123456789.,eE+-"\n', max_size=6), max_size=5), max_size=5))
def test_any_csv_is_answered_or_refused(header: str, rows: list[list[str]]) -> None:
    body = "\n".join([header, *(",".join(row) for row in rows)]).encode(errors="replace")
    check(INVOKE, body or b" ", content_type="text/csv")


@settings(max_examples=100)
@given(
    st.binary(max_size=80),
    st.integers(0, 90),
    st.lists(st.integers(0, 5), max_size=3),
    st.sampled_from(["FP32", "BYTES", "BOOL", "BF16"]),
)
def test_any_binary_tensor_is_answered_or_refused(raw: bytes, size: int, shape: list[int], datatype: str) -> None:
    spec = {"name": "X", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [spec]}).encode()
    check(INFER, head + raw, inference_header_content_length=str(len(head)))


def frame(X: pd.DataFrame) -> Any:  # noqa: N803
    return X


def mapping(X: dict[str, Any]) -> Any:  # noqa: N803
    return X


def rows(X: list[Any]) -> Any:  # noqa: N803
    return X


def array(X: Any) -> Any:  # noqa: N803
    return X


@settings(max_examples=150)
@given(st.sampled_from([frame, mapping, rows, array]), near_misses() | st.tuples(st.sampled_from(list(GOOD)), values))
def test_models_that_give_back_what_they_get_can_always_be_answered(model: Any, case: tuple[str, Any]) -> None:
    route, value = case
    body = value if isinstance(value, bytes) else json.dumps(value).encode()

    async def main() -> None:
        status, answer = await Bench(model, max_body_bytes=10_000).ask(body, route, "POST")
        assert status < 500, answer

    asyncio.run(main())
