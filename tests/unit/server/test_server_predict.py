"""``POST /predict``: what reaches the model, what comes back, and whose fault a failure is."""

from __future__ import annotations

import asyncio
import datetime
import decimal
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from headway import jobs
from headway.domain.errors import InvalidRequest
from tests.unit.server.bench import Bench, read

ROW = [5.1, 3.5, 1.4, 0.2]


class Seen:
    """Keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Any]] = []

    def predict(self, X: np.ndarray[Any, Any], features_names: list[str] | None = None) -> Any:  # noqa: N803
        self.asked.append((X, features_names))
        return [0] * len(X)


def seen(body: bytes | object) -> tuple[Any, Any]:
    model = Seen()

    async def main() -> None:
        await Bench(model).predict(body)

    asyncio.run(main())
    return model.asked[0]


def answer(subject: Any, body: bytes | object = (ROW,), **headers: str) -> Any:
    return asyncio.run(_call(lambda bench: bench.predict(body, **headers), subject))


def error(subject: Any, body: bytes | object = (ROW,), **headers: str) -> dict[str, Any]:
    found: dict[str, Any] = asyncio.run(_call(lambda bench: bench.error(body, **headers), subject))
    return found


async def _call(do: Callable[[Bench], Any], subject: Any) -> Any:
    return await do(Bench(subject))


# -- what reaches the model ----------------------------------------------------------------------


@pytest.mark.parametrize("body", [[ROW], {"instances": [ROW]}, {"instances": [ROW], "columns": None}])
def test_rows_become_a_float_array(body: object) -> None:
    x, names = seen(body)
    assert x.dtype == np.float64
    assert x.tolist() == [ROW]
    assert names is None


def test_whole_numbers_booleans_and_nulls_are_floats_too() -> None:
    x, _ = seen([[1, True, None], [2.5, False, 3]])
    assert x.dtype == np.float64
    assert np.array_equal(x, [[1.0, 1.0, np.nan], [2.5, 0.0, 3.0]], equal_nan=True)


def test_columns_reach_a_model_that_takes_them() -> None:
    assert seen({"instances": [ROW], "columns": ["a", "b", "c", "d"]})[1] == ["a", "b", "c", "d"]


def test_records_become_columns_in_their_order_whatever_the_order_within_each() -> None:
    x, names = seen([{"a": 1, "b": 2}, {"b": 4, "a": 3}])
    assert names == ["a", "b"]
    assert x.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_rows_of_strings_become_an_array_of_objects() -> None:
    x, _ = seen([["a", "b"], ["c", "d"]])
    assert x.dtype == object
    assert x.tolist() == [["a", "b"], ["c", "d"]]


def test_nested_rows_become_a_tensor() -> None:
    x, _ = seen([[[1, 2], [3, 4]], [[5, 6], [7, 8]], [[0, 0], [0, 0]]])
    assert x.shape == (3, 2, 2)


def test_a_data_frame_model_gets_columns_of_their_own_types() -> None:
    asked = []

    def predict(X: pd.DataFrame) -> list[int]:  # noqa: N803
        asked.append(X)
        return [0] * len(X)

    answer(predict, [{"size": 1, "color": "red", "weight": 1.5}, {"size": 2, "color": None, "weight": 2}])
    frame = asked[0]
    assert list(frame.columns) == ["size", "color", "weight"]
    assert frame["size"].dtype == np.int64
    assert frame["weight"].dtype == np.float64
    assert frame["color"].tolist()[0] == "red"


def test_a_dict_model_gets_the_object_and_a_list_model_the_rows_as_they_are() -> None:
    def whole(X: dict[str, Any]) -> Any:  # noqa: N803
        return X

    def rows(X: list[Any]) -> Any:  # noqa: N803
        return X

    assert answer(whole, {"text": "héllo", "n": [1, {"deep": None}]}) == {"text": "héllo", "n": [1, {"deep": None}]}
    assert answer(rows, ["a", [1, 2], [3]]) == ["a", [1, 2], [3]]
    assert error(whole, [1])["code"] == "invalid_request"


def test_a_model_that_names_its_features_gets_them_in_its_order() -> None:
    class Named(Seen):
        feature_names_in_ = np.array(["a", "b"], dtype=object)

    model = Named()
    assert answer(model, [{"b": 2, "a": 1}]) == [0]
    assert model.asked[0][0].tolist() == [[1.0, 2.0]]
    assert "'b'" in error(Named(), [{"a": 1, "c": 2}])["message"]
    assert "'c'" in error(Named(), [{"a": 1, "b": 2, "c": 2}])["message"]


# -- bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b" ", "empty"),
        (b"[[1, 2], [3]]", "row 1 has 1 values, row 0 has 2"),
        (b"[[1, NaN]]", "send null"),
        (b"[[1, -Infinity]]", "send null"),
        (b"[[1e400]]", "out of range"),
        (b"[[" + b"9" * 400 + b", null]]", "float64"),
        (b"[[" + b"9" * 5000 + b", null]]", "out of range"),
        (b"[[1], [", "not valid JSON"),
        (b"[[1]] trailing", "not valid JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b'[{"a": 1, "a": 2}]', "'a' is given twice"),
        (b'{"instances": [[1]], "instances": [[2]]}', "given twice"),
        (b'[["\xff"]]', "UTF-8"),
        (b"\xff\xfe[\x00", "byte order mark"),
        (b"[]", "no rows"),
        (b"[[]]", "rows are empty"),
        (b"3", "JSON array"),
        (b"null", "JSON array"),
        (b'"text"', "JSON array"),
        (b"{}", "no key 'instances'"),
        (b'{"instance": [[1]]}', "unknown key 'instance'"),
        (b'{"instances": {"a": 1}}', "JSON array"),
        (b"[1, 2, 3]", "row 0 is a number"),
        (b"[[1], 2]", "row 1 is a number"),
        (b'[{"a": 1}, [2]]', "row 0 is an object"),
        (b'[[1, "a"]]', "mix strings and numbers"),
        (b'[[{"a": 1}]]', "an object where a number"),
        (b"[[1, [2]]]", "a list where a number"),
        (b"[[[1, 2], [3]]]", "equal shape"),
        (b'[[["a"]]]', "must be numbers"),
        (b'[{"a": 1}, {"b": 1}]', "record 1 and record 0 differ"),
        (b'{"instances": [[1, 2]], "columns": ["a"]}', "1 columns, but rows have 2"),
        (b'{"instances": [[1, 2]], "columns": ["a", "a"]}', "named twice"),
        (b'{"instances": [[1, 2]], "columns": "ab"}', "list of strings"),
        (b'{"instances": [{"a": 1}], "columns": ["a"]}', "records"),
    ],
)
def test_bad_bodies_are_refused_with_a_reason(body: bytes, word: str) -> None:
    found = error(Seen(), body)
    assert found["status"] == 400
    assert found["code"] == "invalid_request"
    assert word in found["message"] + found.get("hint", "")
    assert len(found["message"]) < 300


def test_a_colon_in_a_string_is_no_duplicate_key() -> None:
    assert seen([{"a:b": "x:y", "c": "::"}])[1] == ["a:b", "c"]


def test_huge_integers_do_not_reach_a_data_frame() -> None:
    def predict(X: pd.DataFrame) -> list[int]:  # noqa: N803
        return [0] * len(X)

    assert "64 bits" in error(predict, [{"a": 2**63}])["message"]
    assert answer(predict, [{"a": 2**63 - 1}]) == [0]


@pytest.mark.parametrize("kind", ["text/csv", "application/octet-stream", "multipart/form-data; boundary=x"])
def test_other_content_types_are_refused(kind: str) -> None:
    assert error(Seen(), content_type=kind)["status"] == 415


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=UTF-8", "application/x-www-form-urlencoded", "x/y+json"]
)
def test_content_types_that_may_hold_json_are_taken(kind: str) -> None:
    assert answer(Seen(), content_type=kind) == [0]


def test_other_charsets_and_encodings_are_refused() -> None:
    assert error(Seen(), content_type="application/json; charset=latin-1")["status"] == 415
    assert error(Seen(), content_encoding="br")["status"] == 415


# -- what comes back ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "wanted"),
    [
        (np.array([1, 2]), [1, 2]),
        (np.array([[0.5, np.nan], [np.inf, 1]]), [[0.5, None], [None, 1.0]]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array(["2024-01-02"], dtype="datetime64[D]"), ["2024-01-02"]),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (pd.Series([1, 2], index=["x", "y"]), [1, 2]),
        (pd.DataFrame({"a": [1, 2], "b": ["x", None]}), [{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
        ({"label": np.str_("x"), np.int64(1): [np.float64(0.5)]}, {"label": "x", "1": [0.5]}),
        (
            [datetime.datetime(2024, 1, 2, 3, tzinfo=datetime.UTC), datetime.date(2024, 1, 2)],
            ["2024-01-02T03:00:00Z", "2024-01-02"],
        ),
        ([pd.Timestamp("2024-01-02"), pd.NaT, pd.NA], ["2024-01-02T00:00:00", None, None]),
        ((1, "a", None, True, 2.5), [1, "a", None, True, 2.5]),
        (decimal.Decimal("1.50"), "1.50"),
        ({1}, [1]),
        (10**30, 10**30),
        ("text", "text"),
        (None, None),
        (np.array(5), 5),
    ],
)
def test_results_become_json(result: Any, wanted: Any) -> None:
    assert answer(lambda X: result) == wanted  # noqa: N803


class Opaque:
    pass


def _loop() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("result", "word"),
    [
        (Opaque(), "Opaque"),
        ([1, Opaque()], "Opaque"),
        (1j, "complex"),
        (np.array([1j]), "complex"),
        (_loop(), "itself"),
    ],
)
def test_a_result_without_json_form_names_its_type(result: Any, word: str) -> None:
    found = error(lambda X: result)  # noqa: N803
    assert found["status"] == 500
    assert found["code"] == "model_failed"
    assert word in found["message"]


# -- failures ------------------------------------------------------------------------------------------


def test_an_exception_is_named_with_its_place_and_no_traceback() -> None:
    def predict(X: Any) -> Any:  # noqa: N803
        raise ValueError("bad things")

    found = error(predict)
    assert found["status"] == 500
    assert found["code"] == "model_failed"
    assert found["message"] == "ValueError: bad things"
    assert found["where"].startswith("test_server_predict.py:")
    assert "Traceback" not in str(found)


@pytest.mark.parametrize("raised", [SystemExit(3), MemoryError(), KeyboardInterrupt(), RecursionError("deep")])
def test_nothing_that_a_model_raises_ends_the_server(raised: BaseException) -> None:
    def predict(X: Any) -> Any:  # noqa: N803
        raise raised

    assert type(raised).__name__ in error(predict)["message"]


HALF = "the file caf\udce9.csv is not there"
"""As a file's name that is not UTF-8 comes out of the operating system."""


@pytest.mark.parametrize("raised", [OSError(HALF), InvalidRequest(HALF), jobs.Retry(HALF)])
def test_half_a_character_in_an_error_does_not_keep_the_answer_back(raised: Exception) -> None:
    def predict(X: Any) -> Any:  # noqa: N803
        raise raised

    assert "the file caf?.csv is not there" in error(predict)["message"]


def test_a_model_may_ask_to_be_asked_again() -> None:
    def busy(X: Any) -> Any:  # noqa: N803
        raise jobs.Retry("the line is busy", after_s=29.5)

    async def main() -> None:
        response = await Bench(busy).send([[1]])[1]
        assert (response.status, response.headers) == (503, ((b"retry-after", b"30"),))
        told = read(response)[1]["error"]
        assert (told["code"], told["message"]) == ("retry_later", "the line is busy")
        assert told["where"].startswith("test_server_predict.py:")

    asyncio.run(main())


def test_a_model_may_refuse_input_in_its_own_words() -> None:
    class TooYoung(Exception):
        status_code = 422

    def refuses(X: Any) -> Any:  # noqa: N803
        raise InvalidRequest("age is below 18", where="age")

    def refuses_lightly(X: Any) -> Any:  # noqa: N803
        raise TooYoung("age is below 18")

    assert error(refuses) == {"status": 400, "code": "invalid_request", "message": "age is below 18", "where": "age"}
    assert error(refuses_lightly)["status"] == 400


@pytest.mark.parametrize("cell", [None, 1e300])
def test_odd_numbers_that_the_model_rejects_are_the_clients_fault(cell: float | None) -> None:
    def predict(X: Any) -> Any:  # noqa: N803
        if not (abs(X) < 1e30).all():
            raise ValueError("Input X contains NaN or infinity")
        raise ValueError("broken for everybody")

    assert error(predict, [[cell]])["status"] == 400
    assert error(predict, [[1.0]])["status"] == 500


def test_a_shape_that_the_model_rejects_is_the_clients_fault_once_another_shape_was_answered() -> None:
    def predict(X: Any) -> Any:  # noqa: N803
        if X.shape[1] != 4:
            raise ValueError(f"X has {X.shape[1]} features, but this model is expecting 4")
        if X[0, 0] < 0:
            raise ValueError("negative")
        return X[:, 0]

    async def main() -> None:
        bench = Bench(predict)
        assert (await bench.error([[1, 2]]))["status"] == 500  # nothing known yet
        await bench.predict([ROW])
        refused = await bench.error([[1, 2]])
        assert (refused["status"], refused["code"]) == (400, "invalid_request")
        assert "expecting 4" in refused["message"]
        assert (await bench.error([[-1, 2, 3, 4]]))["status"] == 500  # a shape it takes: the model's own fault

    asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"[[1, 2], [3, [4]]]", "row 1, column 1"),
        (b"[[[4], 1]]", "row 0, column 0"),
        (b'[["a", {}]]', "row 0, column 1"),
        (b'[["a", 1]]', "row 0, column 1"),
        (b'[[1, null, "a"]]', "row 0, column 2"),
    ],
)
def test_the_cell_that_does_not_fit_is_named(body: bytes, where: str) -> None:
    assert error(Seen(), body)["where"] == where


@pytest.mark.parametrize("body", [b'[[["1.5"]]]', b"[[[[1], 2]]]", b"[[[]]]", b"[[[], []]]", b'[[[1], ["a"]]]'])
def test_nested_rows_are_numbers(body: bytes) -> None:
    assert error(Seen(), body)["status"] == 400
