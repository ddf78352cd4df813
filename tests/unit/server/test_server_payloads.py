"""Sampled payloads: chosen by chance, redacted in every wire format's shape, bounded."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.server.config import PayloadOptions
from headway.server.payloads import PayloadSampler
from headway.server.query_log import QueryLogWriter
from headway.server.redaction import REDACTED, redact
from tests.segment_walk import rows
from tests.unit.server.bench import Bench


def sampler(folder: Path, *, columns: tuple[str, ...] | None = None, **options: Any) -> PayloadSampler:
    chosen = PayloadOptions(**{"sample": 1.0, **options})
    return PayloadSampler(folder, chosen, stream="s", version="v1", columns=columns, wall_ns=lambda: 7)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.iterdir()) for line in path.read_bytes().splitlines()]


def test_requests_and_their_answers_are_kept_with_their_records(tmp_path: Path) -> None:
    async def main() -> None:
        writer = QueryLogWriter(tmp_path / "log", model="iris", version="v1", replica="iris-v1-bcdfg")
        writer.payloads = sampler(tmp_path / "kept")
        writer.start(asyncio.get_running_loop())
        bench = Bench(lambda X: X[:, 0], query_log=writer)  # noqa: N803
        await bench.predict([[1.0]], x_request_id="one")
        await bench.ask({"inputs": [[2.0]]}, "/invocations", x_request_id="two")
        writer.stop()
        found = lines(tmp_path / "kept")
        assert [line["input"] for line in found] == [[[1.0]], {"inputs": [[2.0]]}]
        assert [line["output"] for line in found] == [{"predictions": [1.0]}, {"predictions": [2.0]}]
        assert [(line["seq"], line["request_id"]) for line in found] == [
            (row["seq"], row["request_id"]) for row in rows(tmp_path / "log" / "iris")
        ]

    asyncio.run(main())


def test_the_share_is_the_one_that_was_asked_for(tmp_path: Path) -> None:
    chances = iter(np.linspace(0, 0.999, 1000))
    keeper = PayloadSampler(
        tmp_path, PayloadOptions(sample=0.05), stream="s", version="v1", columns=None, chance=lambda: next(chances)
    )
    assert sum(keeper.chosen for _ in range(1000)) == 50
    assert not any(
        PayloadSampler(tmp_path, PayloadOptions(sample=0), stream="s", version="v1", columns=None).chosen
        for _ in range(100)
    )


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b"x,y\n1,2\n", {"text": "x,y\n1,2\n"}),
        (b"\xff\x00", {"base64": "/wA="}),
        (b"[" * 40 + b"]" * 40, {"omitted": "80 bytes, more than 50"}),
    ],
)
def test_what_is_no_json_is_told_apart_and_what_is_too_long_left_out(tmp_path: Path, body: bytes, kept: Any) -> None:
    keeper = sampler(tmp_path, max_bytes=50)
    keeper.start()
    keeper.offer(0, b"id", "/predict", 200, body, b"{}")
    keeper.stop()
    assert lines(tmp_path)[0]["input"] == kept


def test_what_cannot_be_redacted_is_not_kept(tmp_path: Path) -> None:
    keeper = sampler(tmp_path, redact=("ssn",))
    keeper.start()
    keeper.offer(0, b"id", "/invocations", 200, b"ssn\n123-45-6789\n", b"{}")
    keeper.stop()
    assert lines(tmp_path)[0]["input"] == {"omitted": "not JSON, so fields cannot be redacted"}


def test_more_than_the_thread_can_take_is_dropped_and_counted(tmp_path: Path) -> None:
    keeper = sampler(tmp_path)
    for seq in range(300):
        keeper.offer(seq, b"id", "/predict", 200, b"1", b"2")
    keeper.start()
    keeper.stop()
    assert (keeper.kept, keeper.dropped) == (256, 44)
    assert len(lines(tmp_path)) == 256


def test_a_disk_that_refuses_is_counted(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("in the way")
    keeper = sampler(tmp_path / "kept")
    keeper.start()
    keeper.offer(0, b"id", "/predict", 200, b"1", b"2")
    keeper.stop()
    assert (keeper.kept, keeper.dropped) == (0, 1)


SECRET = "123-45-6789"


@pytest.mark.parametrize(
    "document",
    [
        {"ssn": SECRET, "age": 3},
        {"deep": [{"er": {"ssn": [SECRET]}}]},
        {"dataframe_split": {"columns": ["age", "ssn"], "data": [[3, SECRET], [4, SECRET]]}},
        {"dataframe_split": {"data": [[3, SECRET]], "columns": ["age", "ssn"]}},
        {"dataframe_records": [{"age": 3, "ssn": SECRET}]},
        {"instances": {"age": [3], "ssn": [SECRET]}},
        {"instances": [[3, SECRET]]},
        {"inputs": [{"name": "ssn", "shape": [1], "datatype": "BYTES", "data": [SECRET]}]},
        {"data": {"names": ["age", "ssn"], "ndarray": [[3, SECRET]]}},
        {"data": {"names": ["age", "ssn"], "tensor": {"shape": [1, 2], "values": [3, SECRET]}}},
        {"dataframe_split": {"columns": ["ssn"], "data": [SECRET]}},
        {"dataframe_split": {"columns": ["age", "ssn"], "data": [[SECRET]]}},
        [[3, SECRET]],
    ],
)
def test_a_field_is_found_in_every_format(document: Any) -> None:
    text = json.dumps(redact(document, ["ssn"], ["age", "ssn"]))
    assert SECRET not in text
    assert REDACTED in text


def test_other_fields_stay_as_they_are() -> None:
    document = {"dataframe_split": {"columns": ["age", "ssn"], "data": [[3, SECRET]]}, "params": {"k": [1, {"x": 2}]}}
    assert redact(document, ["ssn"]) == {
        "dataframe_split": {"columns": ["age", "ssn"], "data": [[3, REDACTED]]},
        "params": {"k": [1, {"x": 2}]},
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "data", "names"]), inner),
    max_leaves=20,
)


@given(json_values)
def test_nothing_changes_where_no_field_is_named(document: Any) -> None:
    assert redact(document, ["ssn"]) == document


@given(json_values)
def test_a_named_key_never_survives(document: Any) -> None:
    def values(found: Any) -> list[Any]:
        if isinstance(found, dict):
            return [v for k, item in found.items() for v in ([item] if k == "a" else values(item))]
        return [v for item in found for v in values(item)] if isinstance(found, list) else []

    assert set(values(redact(document, ["a"]))) <= {REDACTED}
