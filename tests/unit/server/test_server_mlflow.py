"""``POST /invocations``: every documented form of MLflow's scoring protocol, and compressed bodies."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from time import perf_counter_ns
from typing import Any

import pandas as pd
import pytest

from headway.domain.errors import Overloaded
from headway.server.codecs.csv_text import parse_csv
from headway.server.http import Request
from tests.unit.server.bench import Asker, Bench

PATH = "/invocations"


def total(X: Any) -> Any:  # noqa: N803
    return X.sum(axis=tuple(range(1, X.ndim))) if X.ndim > 1 else X


def frame(X: pd.DataFrame) -> Any:  # noqa: N803
    return [{"columns": [str(c) for c in X.columns], "kinds": [d.kind for d in X.dtypes], "row": list(row)} for row in
            X.itertuples(index=False)]  # fmt: skip


def rows(X: list[Any]) -> Any:  # noqa: N803
    return X


def whole(X: dict[str, Any]) -> Any:  # noqa: N803
    return X


def ask(subject: Any, body: bytes | object, **headers: str) -> tuple[int, Any]:
    async def main() -> tuple[int, Any]:
        return await Bench(subject, max_body_bytes=100_000).ask(body, PATH, **headers)

    return asyncio.run(main())


def predictions(subject: Any, body: bytes | object, **headers: str) -> Any:
    status, answer = ask(subject, body, **headers)
    assert status == 200, answer
    return answer["predictions"]


def refusal(subject: Any, body: bytes | object, **headers: str) -> str:
    status, answer = ask(subject, body, **headers)
    assert status == 400, answer
    return f"{answer['error']['message']} {answer['error'].get('hint')}"


@pytest.mark.parametrize(
    ("body", "sums"),
    [
        ({"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}}, [3, 7]),
        ({"dataframe_split": {"index": [5, 9], "columns": ["a", "b"], "data": [[1, 2], [3, None]]}}, [3, None]),
        ({"dataframe_split": {"columns": [0, 1], "data": [[1, 2]]}}, [3]),
        ({"dataframe_split": {"data": [[1, 2]]}}, [3]),
        ({"dataframe_records": [{"a": 1, "b": 2}, {"b": 4, "a": 3}]}, [3, 7]),
        ({"instances": [[1, 2], [3, 4]]}, [3, 7]),
        ({"instances": [1, 2, 3]}, [1, 2, 3]),
        ({"instances": [{"a": 1, "b": 2}]}, [3]),
        ({"instances": [[[1, 2], [3, 4]], [[0, 0], [0, 1]], [[1, 1], [1, 1]]]}, [10, 1, 4]),
        ({"inputs": [[1, 2]]}, [3]),
        ({"inputs": {"a": [1, 3], "b": [2, 4]}}, [3, 7]),
        ({"inputs": {"x": [[1, 2], [3, 4]]}}, [3, 7]),
        ({"inputs": [[1, 2]], "params": {}}, [3]),
    ],
)
def test_every_json_form_is_read(body: object, sums: list[float]) -> None:
    assert predictions(total, body) == sums


def test_a_data_frame_keeps_names_and_types() -> None:
    body = {"dataframe_split": {"columns": ["size", "color"], "data": [[1, "red"], [2, "blue"]]}}
    assert predictions(frame, body)[1] == {"columns": ["size", "color"], "kinds": ["i", "O"], "row": [2, "blue"]}
    assert predictions(frame, {"inputs": {"w": [1.5], "t": ["x"]}}) == [
        {"columns": ["w", "t"], "kinds": ["f", "O"], "row": [1.5, "x"]}
    ]
    assert predictions(frame, {"instances": ["x", "y"]})[0]["row"] == ["x"]


def test_lists_and_dicts_are_passed_on() -> None:
    assert predictions(rows, {"instances": ["a", [1]]}) == ["a", [1]]
    assert predictions(rows, {"dataframe_split": {"columns": ["a"], "data": [[1]]}}) == [[1]]
    assert predictions(whole, {"anything": 1}) == {"anything": 1}


def test_csv_has_a_header_and_columns_of_one_type_each() -> None:
    text = b"size,color,weight,flag\n1,red,1.5,x\n2,,2,\n"
    assert predictions(frame, text, content_type="text/csv; charset=utf-8") == [
        {"columns": ["size", "color", "weight", "flag"], "kinds": ["i", "O", "f", "O"], "row": [1, "red", 1.5, "x"]},
        {"columns": ["size", "color", "weight", "flag"], "kinds": ["i", "O", "f", "O"], "row": [2, None, 2.0, None]},
    ]
    assert predictions(total, b"a,b\n1,2\n3,\n", content_type="text/csv") == [3.0, None]


@pytest.mark.parametrize(
    ("text", "names", "rows"),
    [
        (b"\xef\xbb\xbfa\r\n1\r\n", ["a"], [[1]]),
        (b'a,b\n"x, y","""z"""\n', ["a", "b"], [["x, y", '"z"']]),
        (b"a\n1\n2.5\n-3e2\n.5\n", ["a"], [[1.0], [2.5], [-300.0], [0.5]]),
        (b"a\nNA\n1\n\nnan\n", ["a"], [[None], [1], [None]]),
        (b"a\n1_0\n", ["a"], [["1_0"]]),
        (b"a\n1\nx\n", ["a"], [["1"], ["x"]]),
    ],
)
def test_csv_cells(text: bytes, names: list[str], rows: list[list[Any]]) -> None:
    assert parse_csv(text) == (names, rows)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"", "header"),
        (b"a,b\n", "header"),
        (b"a,b\n1\n", "row 0 has 1 values, the header names 2"),
        (b'a\n"1\n', "not valid CSV"),
        (b"a\n\xff\n", "UTF-8"),
        (b"a\n1e999\n", "float64"),
        (b"a\n" + b"x" * 200_000, "decompressed|not valid CSV"),
    ],
)
def test_bad_csv_is_refused(text: bytes, word: str) -> None:
    if not text:
        text = b" "
    said = refusal(frame, text, content_type="text/csv")
    assert any(w in said for w in word.split("|"))


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"[[1, 2]]", "must be a JSON object"),
        ({}, "0 of the formats"),
        ({"instances": [[1]], "inputs": [[1]]}, "2 of the formats"),
        ({"data": [[1]]}, "unknown key 'data'"),
        ({"dataframe_split": [[1]]}, "object with data"),
        ({"dataframe_split": {"data": [[1]], "rows": 1}}, "unknown key 'rows'"),
        ({"dataframe_split": {"data": [[1]], "index": [1, 2]}}, "differ in length"),
        ({"dataframe_split": {"columns": ["a", "b"], "data": [[1]]}}, "2 columns, but rows have 1"),
        ({"dataframe_split": {"columns": [True], "data": [[1]]}}, "list of strings"),
        ({"dataframe_records": [[1]]}, "list of objects"),
        ({"dataframe_records": []}, "no rows"),
        ({"instances": []}, "no rows"),
        ({"instances": [1, "a"]}, "mix"),
        ({"instances": [1, [2]]}, "row 0 is a number"),
        ({"instances": "abc"}, "array"),
        ({"inputs": {}}, "list for each column"),
        ({"inputs": {"a": 1}}, "list for each column"),
        ({"inputs": {"a": [1], "b": [1, 2]}}, "differ in length"),
        ({"instances": [[1]], "params": {"k": 1}}, "takes no params"),
        ({"instances": [[1]], "params": [1]}, "must be an object"),
    ],
)
def test_bad_json_is_refused_with_a_reason(body: object, word: str) -> None:
    assert word in refusal(total, body)


def test_params_reach_a_model_that_takes_them_and_keep_its_request_alone() -> None:
    calls = []

    def scaled(X: Any, params: dict[str, Any] | None = None) -> Any:  # noqa: N803
        calls.append(len(X))
        return X[:, 0] * (params or {}).get("factor", 1)

    async def main() -> None:
        bench = Bench(scaled)
        bodies = [{"instances": [[2]], "params": {"factor": f}} for f in (1, 2)] + [{"instances": [[2]]}] * 2
        answers = await asyncio.gather(*(bench.send(body, PATH)[1] for body in bodies))
        assert [json.loads(a.body)["predictions"] for a in answers] == [[2.0], [4.0], [2.0], [2.0]]
        assert sorted(calls) == [1, 1, 2]

    asyncio.run(main())


def test_ping_health_and_version_answer_as_a_scoring_server_does() -> None:
    async def main() -> None:
        bench = Bench(total)
        for path in ("/ping", "/health", "/version"):
            assert (await bench.ask(path=path))[0] == 200
        bench.app.drain()
        assert (await bench.ask(path="/ping"))[0] == 503

    asyncio.run(main())


# -- compressed bodies (every format) ---------------------------------------------------------------

BODY = json.dumps({"instances": [[1, 2]]}).encode()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(BODY, mtime=0)),
        ("GZIP", gzip.compress(BODY[:5], mtime=0) + gzip.compress(BODY[5:], mtime=0)),
        ("x-gzip", gzip.compress(BODY, mtime=0)),
        ("deflate", zlib.compress(BODY)),
        ("identity", BODY),
    ],
)
def test_compressed_bodies_are_read(coding: str, body: bytes) -> None:
    assert predictions(total, body, content_encoding=coding) == [3.0]


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        ("gzip", BODY, 400),
        ("gzip", gzip.compress(BODY, mtime=0)[:-4], 400),
        ("gzip", gzip.compress(BODY, mtime=0) + b"junk", 400),
        ("deflate", zlib.compress(BODY) + b"junk", 400),
        ("gzip", gzip.compress(b" " * 100_001, mtime=0), 413),
        ("gzip", gzip.compress(b" " * 90_000, mtime=0) * 2, 413),
        ("gzip", gzip.compress(b"[" * 100_000, mtime=0), 400),
        ("br", BODY, 415),
        ("gzip, gzip", BODY, 415),
    ],
)
def test_bad_bombs_and_unknown_codings_are_refused(coding: str, body: bytes, status: int) -> None:
    assert ask(total, body, content_encoding=coding)[0] == status


def test_a_gzip_body_has_few_members() -> None:
    half = len(BODY) // 2
    many = b"".join(gzip.compress(BODY[i : i + 1]) for i in range(len(BODY)))
    assert predictions(total, many, content_encoding="gzip") == [3.0]
    assert predictions(total, gzip.compress(BODY[:half]) + gzip.compress(BODY[half:]), content_encoding="gzip") == [3.0]
    assert "more than 256 members" in refusal(
        total, gzip.compress(b"") * 300 + gzip.compress(BODY), content_encoding="gzip"
    )


def test_members_of_all_sizes_are_put_together_again() -> None:
    body = json.dumps({"inputs": [[i] for i in range(9000)]}).encode()
    for cut in (1, 50, len(body) - 1):
        packed = gzip.compress(body[:cut], 0) + gzip.compress(body[cut:], 0)
        assert len(predictions(total, packed, content_encoding="gzip")) == 9000


def test_what_was_inflated_counts_against_the_budget_of_bodies() -> None:
    charged = []

    class Full(Asker):
        def charge(self, request: Request, size: int) -> None:
            charged.append(size)
            raise Overloaded("too many large bodies at once")

    async def main() -> None:
        for body, status in ((b" " * 70_000 + BODY, 429), (BODY, 200)):
            asker = Full()
            headers = {b"content-encoding": b"gzip"}
            request = Request(b"POST", PATH.encode(), gzip.compress(body), headers, asker, perf_counter_ns())
            response = Bench(total).app.handle(request) or await asker.answer
            assert response.status == status

    asyncio.run(main())
    assert charged == [70_000 + len(BODY)]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (b"a\nTrue\nFalse\n", [[True], [False]]),
        (b"a\nTRUE\ntrue\n", [[True], [True]]),
        (b"a\nTrue\n1\n", [["True"], ["1"]]),
        (b'a\nTrue\n""\n', [["True"], [None]]),
        (b"a,b\nTrue,1\n", [[True, 1]]),
    ],
)
def test_csv_columns_of_true_and_false_are_booleans(text: bytes, rows: list[list[Any]]) -> None:
    assert parse_csv(text)[1] == rows


def test_parameters_of_the_content_type_are_not_passed_over() -> None:
    for kind, status in (("; charset=utf-8;", 200), ("; format=pandas-split", 415), ("; charset=utf-8; x=1", 415)):
        assert ask(total, {"inputs": [[1]]}, content_type="application/json" + kind)[0] == status


@pytest.mark.parametrize(
    ("subject", "body", "status", "code"),
    [
        (total, {"inputs": [[1], [1, 2]]}, 400, "BAD_REQUEST"),
        (lambda X: 1 / 0, {"inputs": [[1]]}, 500, "INTERNAL_ERROR"),  # noqa: N803
    ],
)
def test_errors_have_mlflows_shape_too(subject: Any, body: object, status: int, code: str) -> None:
    found, answer = ask(subject, body)
    assert (found, answer["error_code"]) == (status, code)
    assert answer["error"]["message"] in answer["message"]


def test_wide_tables_are_refused_before_a_frame_is_made() -> None:
    wide = ",".join(map(str, range(70_000)))
    assert "at most 65536" in refusal(frame, f"{wide}\n{wide}".encode(), content_type="text/csv")
    assert "at most 65536" in refusal(frame, {"inputs": [[1] * 70_000]})
    assert len(predictions(total, {"inputs": [[1] * 70_000]})) == 1
