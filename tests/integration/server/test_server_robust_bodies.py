"""Bodies made to hurt, sent to a real process: each is answered or refused with a reason, none with a 5xx, and the
process stays alive and small."""

from __future__ import annotations

import gzip
import json
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.integration.server.replica import Replica
from tests.leaks import make_scratch, remove_scratch

MIB = 1024 * 1024
MODELS = {
    "array": "def predict(X):\n    return X\n",
    "frame": "import pandas as pd\ndef predict(X: pd.DataFrame):\n    return X\n",
    "dict": "def predict(X: dict):\n    return X\n",
    "list": "def predict(X: list):\n    return X\n",
}
"""Each gives back what it got, so that whatever was let in must find its way out too."""

INFER = "/v2/models/iris/infer"
PLACES = [
    ("/predict", b"[[%s, 1, 1, 1]]"),
    ("/predict", b'{"instances": [[%s, 1]], "columns": ["a", "b"]}'),
    ("/predict", b'[{"a": %s, "b": 1}]'),
    ("/invocations", b'{"dataframe_split": {"columns": ["a", "b"], "data": [[%s, 1]]}}'),
    ("/invocations", b'{"inputs": {"a": [%s], "b": [1]}}'),
    ("/invocations", b'{"instances": [{"a": %s, "b": 1}]}'),
    ("/api/v1.0/predictions", b'{"data": {"ndarray": [[%s, 1]]}}'),
    ("/api/v1.0/predictions", b'{"data": {"tensor": {"shape": [1, 2], "values": [%s, 1]}}}'),
    ("/api/v1.0/predictions", b'{"jsonData": %s}'),
    (INFER, b'{"inputs": [{"name": "X", "datatype": "FP64", "shape": [1, 2], "data": [%s, 1]}]}'),
    (INFER, b'{"inputs": [{"name": "X", "datatype": "INT64", "shape": [1, 2], "data": [%s, 1]}]}'),
    (INFER, b'{"inputs": [{"name": "X", "datatype": "BYTES", "shape": [1, 2], "data": [%s, "1"]}]}'),
    (INFER, b'{"inputs": [{"name": "X", "datatype": "BOOL", "shape": %s, "data": [true]}]}'),
    (INFER, b'{"inputs": [{"name": "X", "datatype": "FP64", "shape": [1], "data": [1]}], "parameters": %s}'),
]
"""Routes, and bodies with a gap."""

NEVER = {
    "1e400": b"1e400",
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "-Infinity": b"-Infinity",
    "100,000 digits": b"1" * 100_000,
    "100,000 lists": b"[" * 100_000 + b"]" * 100_000,
    "100,000 objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "as deep as the decoder goes": b"[" * 980 + b"1" + b"]" * 980,
    "objects as deep as the decoder goes": b'{"a":' * 980 + b"1" + b"}" * 980,
    "lists never closed": b"[" * 100_000,
    "a key twice": b'{"a": 1, "a": 2}',
    "a key twice, deep": b'[[{"b": {"a": ":", "a": 2}}]]',
    "not UTF-8": b'"\xff"',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "half a pair": b'"\\ud800"',
    "the other half": b'"\\udc00x"',
    "a control character": b'"\x01"',
    "a string without end": b'"abc',
    "a comma too many": b"1,,1",
    "a plus": b"+1",
    "hexadecimal": b"0x10",
    "a leading zero": b"01",
}
"""What is no JSON, or none that can be trusted."""
SOMETIMES = {
    "nothing": b"",
    "300 digits": b"1" * 300,
    "2^63": b"9223372036854775808",
    "2^64": b"18446744073709551616",
    "below int64": b"-9223372036854775809",
    "nearly infinite": b"1e308",
    "nearly nothing": b"1e-400",
    "90 lists": b"[" * 90 + b"1" + b"]" * 90,
    "ragged": b"[1, [2]]",
    "a text": b'"x"',
    "a text with a NUL": b'"a\\u0000"',
    "a text with a colon": b'"a:b"',
    "a date": b'"2024-01-02"',
    "null": b"null",
    "true": b"true",
    "an empty list": b"[]",
    "an empty object": b"{}",
    "texts of very different length": json.dumps(["a"] * 2000 + ["b" * 100_000]).encode(),
    "a huge shape": b"[1000000000]",
    "a shape beyond 64 bits": b"[4294967296, 4294967296]",
    "a negative shape": b"[-1]",
    "a shape of many sizes": b"[" + b"1," * 99 + b"1]",
    "a huge parameter": b'{"binary_data_output": 5}',
}
"""What some models take; never a reason for a 5xx."""


def served(kind: str) -> Iterator[httpx.Client]:
    """A client of a model; checks at the end that nothing went wrong inside."""
    scratch = make_scratch()
    try:
        with Replica(scratch, MODELS[kind]) as replica, replica.client() as client:
            yield client
            assert client.get("/health/ready").status_code == 200
            assert "Traceback" not in replica.log()
    finally:
        remove_scratch(scratch)


@pytest.fixture(scope="module", params=MODELS)
def any_model(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    yield from served(request.param)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    yield from served("frame")


def reason(answer: httpx.Response) -> str:
    """Why it was refused; fails when it does not say so in a form that all of Headway uses."""
    found = answer.json()["error"]
    message = found if isinstance(found, str) else found["message"]
    assert message
    assert "Traceback" not in answer.text
    assert len(answer.text) < 2000
    return str(message)


def test_what_cannot_be_trusted_is_refused_wherever_it_stands(any_model: httpx.Client) -> None:
    for name, value in NEVER.items():
        for path, body in [*PLACES, ("/predict", b"%s"), ("/invocations", b"%s"), (INFER, b"%s")]:
            answer = any_model.post(path, content=body % value)
            assert answer.status_code == 400, (name, path, body, answer.text[:200])
            reason(answer)


def test_what_is_odd_is_answered_or_refused(any_model: httpx.Client) -> None:
    for name, value in SOMETIMES.items():
        for path, body in PLACES:
            answer = any_model.post(path, content=body % value)
            assert answer.status_code in (200, 400, 422), (name, path, body, answer.text[:200])
            if answer.status_code != 200:
                reason(answer)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"\xef\xbb\xbf[[1]]", "byte order mark"),
        ("[[1]]".encode("utf-16"), "byte order mark"),
        ("[[1]]".encode("utf-16-le"), "UTF-8"),
        ("[[1]]".encode("utf-32-be"), "UTF-8"),
        (b"[[1]] [[1]]", "not valid JSON"),
        (b" \n ", "empty"),
        (gzip.compress(b"[[1]]", mtime=0), "UTF-8"),
        (b'["\\ud83d"]', "surrogate pair"),
        (b"[[NaN]]", "not valid JSON"),
        (b"[" * 101 + b"]" * 101, "nested too deep"),
    ],
)
def test_reasons_name_what_is_wrong(client: httpx.Client, body: bytes, word: str) -> None:
    answer = client.post("/predict", content=body)
    assert answer.status_code == 400
    assert word in reason(answer)


def binary(head: dict[str, Any], raw: bytes, length: object = None) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(head).encode()
    return text + raw, {"inference-header-content-length": str(len(text) if length is None else length)}


def spec(datatype: str, shape: list[Any], size: object) -> dict[str, Any]:
    return {"inputs": [{"name": "X", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}]}


LIES = [
    binary(spec("FP32", [1], 4), b"\0" * 4, length)
    for length in (-1, "+10", "0x10", 0, 10**6, 10**30, "1e3", "", "5, 5", 3)
]
LIES += [
    binary(spec("FP32", [1], size), b"\0" * 4) for size in (-4, 3, 5, 2**31, 2**63, 10**30, 4.0, "4", True, None, [4])
]
LIES += [
    binary(spec("FP32", shape, 4), b"\0" * 4)
    for shape in ([10**9], [2**31, 2**31], [2**62, 4], [-1], [-(2**63)], [0], [2**64], [1] * 33, [], [1.0])
]
LIES += [
    binary(spec("BYTES", [count], len(raw)), raw)
    for count, raw in (
        (1, b"\xff\xff\xff\xff"),
        (1, struct.pack("<I", 5) + b"abc"),
        (2, struct.pack("<I", 2**31) * 2),
        (10**9, b"\0\0\0\0"),
        (1, b"\0\0\0"),
        (1, struct.pack("<I", 0) * 2),
    )
]


def test_binary_tensors_that_lie_about_themselves_are_refused(client: httpx.Client) -> None:
    for body, headers in LIES:
        answer = client.post(INFER, content=body, headers=headers)
        assert answer.status_code == 400, (body, headers, answer.text[:200])
        reason(answer)


def deflated(level: int, body: bytes) -> bytes:
    return zlib.compress(body, level)


BOMBS = {
    "a bomb": ("gzip", gzip.compress(b" " * (200 * MIB)), 413, "above"),
    "a bomb, deflated": ("deflate", deflated(9, b" " * (200 * MIB)), 413, "above"),
    "a bomb of members": ("gzip", gzip.compress(b" " * MIB) * 200, 413, "above"),
    "a bomb in a bomb": ("gzip", gzip.compress(gzip.compress(b" " * (200 * MIB))), 400, "UTF-8"),
    "a hundred thousand members": ("gzip", gzip.compress(b"") * 100_000, 400, "members"),
    "cut off": ("gzip", gzip.compress(b"[[1]]")[:-1], 400, "ends too early"),
    "cut in its head": ("gzip", gzip.compress(b"[[1]]")[:5], 400, "ends too early"),
    "a second member cut off": ("gzip", gzip.compress(b"[[1]]") + gzip.compress(b"[[1]]")[:9], 400, "ends too early"),
    "a wrong checksum": ("gzip", gzip.compress(b"[[1]]")[:-8] + b"\0" * 8, 400, "not valid gzip"),
    "junk behind it": ("gzip", gzip.compress(b"[[1]]") + b"junk", 400, "gzip"),
    "nothing": ("gzip", b"", 400, "ends too early"),
    "not gzip": ("gzip", b"[[1]]", 400, "not valid gzip"),
    "twice compressed": ("gzip, gzip", gzip.compress(gzip.compress(b"[[1]]")), 415, "encoding"),
    "brotli": ("br", b"[[1]]", 415, "encoding"),
    "a coding of many letters": ("x" * 5000, b"[[1]]", 415, "encoding"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_compressed_bodies_that_are_not_what_they_seem(client: httpx.Client, name: str) -> None:
    coding, body, status, word = BOMBS[name]
    answer = client.post("/predict", content=body, headers={"content-encoding": coding})
    assert answer.status_code == status
    assert word in reason(answer)


CSVS = {
    "two million columns": (b"," * 2_000_000 + b"\n" + b"," * 2_000_000, 413, "values"),
    "a million columns": (b"," * 1_000_000 + b"\n" + b"," * 1_000_000, 400, "columns"),
    "a quote never closed": (b'a\n"' + b"x,\n" * 10_000, 400, "not valid CSV"),
    "a quote within": (b'a\n1"2', 200, ""),
    "a field without end": (b"a\n" + b"x" * 200_000, 400, "field larger"),
    "not UTF-8": (b"a\n\xff\n", 400, "UTF-8"),
    "a bare carriage return": (b"a\r1\r2", 200, ""),
    "NULs": (b"a\n" + b"\0" * 1000 + b"\n", 200, ""),
    "ragged": (b"a,b\n1,2\n3\n", 400, "row 1 has 1"),
    "a column twice": (b"a,a\n1,2\n", 400, "twice"),
    "no rows": (b"a,b\n", 400, "at least one row"),
}


@pytest.mark.parametrize("name", CSVS)
def test_csv_made_to_hurt(client: httpx.Client, name: str) -> None:
    body, status, word = CSVS[name]
    answer = client.post("/invocations", content=body, headers={"content-type": "text/csv"})
    assert answer.status_code == status, answer.text[:200]
    if status != 200:
        assert word in reason(answer)


BIG = 32 * MIB - 1024


def filled(before: bytes, unit: bytes, after: bytes) -> bytes:
    """As many of ``unit`` as fit into the largest body there may be."""
    count = (BIG - len(before) - len(after)) // len(unit)
    return before + (unit * count)[: -1 if unit.endswith(b",") else None] + after


AMPLIFIERS = {
    "lists": ("/predict", filled(b"[", b"[],", b"]"), {}),
    "objects": ("/predict", filled(b"[", b"{},", b"]"), {}),
    "rows": ("/predict", filled(b"[", b"[1],", b"]"), {}),
    "one row": ("/predict", filled(b"[[", b"1,", b"]]"), {}),
    "records": ("/invocations", filled(b'{"instances":[', b'{"a":1},', b"]}"), {}),
    "texts": ("/api/v1.0/predictions", filled(b'{"data":{"ndarray":[', b'"a",', b"]}}"), {}),
    "commas": ("/invocations", filled(b"", b",", b"\n"), {"content-type": "text/csv"}),
    "lines": ("/invocations", filled(b"a\n", b"1\n", b""), {"content-type": "text/csv"}),
    "tensor": (
        INFER,
        filled(b'{"inputs":[{"name":"X","datatype":"UINT8","shape":[16000000],"data":[', b"1,", b"]}]}"),
        {},
    ),
    "empty elements": (INFER, *binary(spec("BYTES", [8_000_000], 32_000_000), b"\0" * 32_000_000)),
}


def test_bodies_that_would_grow_a_hundredfold_are_refused_before_they_do(scratch: Path) -> None:
    """Each would take 0.8 to 3.5 GB and 4 to 28 s as Python objects; health is asked all the while."""
    with Replica(scratch, MODELS["array"]) as replica, replica.client() as client, replica.client() as other:
        process = psutil.Process(replica.process.pid)
        before = process.memory_info().rss
        done = threading.Event()
        waits: list[float] = []

        def ask_health() -> None:
            while not done.wait(0.01):
                waits.append(other.get("/health/ping").elapsed.total_seconds())

        asking = threading.Thread(target=ask_health)
        asking.start()
        try:
            for name, (path, body, headers) in AMPLIFIERS.items():
                spent_s = sum(process.cpu_times()[:2])
                answer = client.post(path, content=body, headers=headers)
                assert sum(process.cpu_times()[:2]) - spent_s < 2, f"{name} was looked at in full"
                assert answer.status_code == 413, name
                assert "more than" in reason(answer)
        finally:
            done.set()
            asking.join()
        peak = int(Path(f"/proc/{process.pid}/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
        assert peak - before < 200 * MIB
        assert process.memory_info().rss - before < 60 * MIB
        assert max(waits) < 20
        assert client.post("/predict", json=[[1]]).status_code == 200
