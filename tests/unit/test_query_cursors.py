"""Cursors of the query log come back from their text as they were, and nothing else passes for one."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.domain.errors import InvalidInput
from headway.domain.query_cursors import MAX_MARKS, Cursor, parse

INT64 = st.integers(0, 2**63 - 1)
STREAMS = st.from_regex(r"[a-z0-9.:,;=_-]{1,60}", fullmatch=True)


@given(INT64, STREAMS, INT64, st.none() | INT64, st.dictionaries(STREAMS, INT64, max_size=5))
def test_a_cursor_is_its_text(ts_ns: int, stream: str, seq: int, asof_ns: int | None, marks: dict[str, int]) -> None:
    cursor = Cursor(ts_ns, stream, seq, asof_ns, marks if asof_ns is not None else {})
    assert parse(str(cursor), where="?after") == cursor


@given(st.text(max_size=80) | st.from_regex(r"[0-9]{1,21}\.[0-9]{1,21}\.[a-z]{0,3}(~[0-9a-z:]{0,24}){0,4}"))
def test_any_other_text_is_refused(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        assert parse(str(parse(text, where="?after")), where="?after") == parse(text, where="?after")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.2",
        "1.2.",
        "x.1.s",
        "9223372036854775808.1.s",
        "1.9223372036854775808.s",
        "1.1.s~",
        "1.1.s~x",
        "1.1.s~9223372036854775808",
        "1.1.s~1~",
        "1.1.s~1~s",
        "1.1.s~1~s:",
        "1.1.s~1~s:9223372036854775808",
        "1.1.s~1" + "~s:1" * (MAX_MARKS + 1),
        "1.1." + "s" * 201,
        "1.1.s~1" + "~s:1" * 20_000,
    ],
)
def test_a_cursor_that_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="not a cursor") as refused:
        parse(text, where="?after")
    assert refused.value.where == "?after"
