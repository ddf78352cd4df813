"""What is live: segments that come, grow and go; which conditions make sense; what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.adapters.querylog import tail as tail_module
from headway.adapters.querylog.store import Part
from headway.adapters.querylog.tail import Tail
from headway.domain.errors import InvalidInput, StorageFailed
from headway.domain.query_log import Condition, IngestReport, Losses, Operator, Retention
from headway.domain.query_segments import Kind
from tests.query_home import SECOND, Home, row
from tests.query_records import START_NS, some_records, write_segments


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.close()


# -- segments --------------------------------------------------------------------------------------


def test_a_question_includes_all_that_was_written_before_it(home: Home) -> None:
    file = home.segment()
    for number in range(30):
        file.rows([row(f"{number}", number)])
        assert home.ids() == [f"{n}" for n in range(number + 1)]
    assert home.window() is not None


def test_ingest_counts_each_record_once(home: Home) -> None:
    one, other = home.segment(), home.segment("wine-v1-bcdfg.0", model="wine")
    one.rows([row(), row()])
    other.rows([row()])
    home.gateway.write()
    assert home.ingest().records == 4
    one.rows([row()])
    assert home.ids() == ["r"] * 4
    assert home.ingest().records == 0
    one.rows([row()])
    assert home.ingest() == IngestReport(records=1)


def test_segments_that_come_and_go(home: Home) -> None:
    first = home.segment()
    first.rows([row("a", 1)])
    assert home.ids() == ["a"]
    first.close()
    second = home.segment(number=1, seq=1)
    second.rows([row("b", 2)])
    home.compact()
    assert not first.path.exists()
    assert home.ids() == ["a", "b"]
    assert home.losses() == Losses()
    second.path.unlink()  # somebody's hand
    assert home.ids() == ["a"]


def test_files_that_are_no_segments_are_left_alone(home: Home) -> None:
    folder = home.segment().path.parent
    (folder / ".iris-v1-bcdfg.0-1.hwq").write_bytes(b"draft")
    (folder / "notes.txt").write_text("x")
    (folder / "x-1.hwq.damaged").write_text("x")
    (folder / "deeper").mkdir()
    (folder.parent / "file").write_text("x")
    assert home.ids() == []
    assert home.losses() == Losses()


def test_a_segment_that_became_parts_between_listing_and_reading(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        file = home.segment(number=number, seq=number)
        file.rows([row(f"{number}", number)])
        file.close()
    real = tail_module.Tail._listed
    compacted: list[bool] = []

    def listed(self: Tail, name: str) -> dict[str, Path]:
        found = real(self, name)
        if not compacted:
            compacted.append(True)
            home.compact()
        return found

    monkeypatch.setattr(tail_module.Tail, "_listed", listed)
    assert home.ids() == ["0", "1", "2"]
    assert compacted


def test_segments_that_become_parts_between_reading_and_asking_for_parts(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        file = home.segment(number=number, seq=number)
        file.rows([row(f"{number}", number)])
        file.close()
    real = home.store.parts

    async def parts(*given: Any, **named: Any) -> list[Part]:
        await home.log.compact(START_NS, Retention())
        return await real(*given, **named)

    monkeypatch.setattr(home.store, "parts", parts)
    assert home.ids() == ["0", "1", "2"]
    assert not list((home.root / "segments" / "iris").glob("*.hwq"))
    assert home.ids() == ["0", "1", "2"]


def test_parts_that_vanish_before_they_are_read_are_asked_for_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = home.segment()
    file.rows([row("a")])
    file.close()
    home.compact()
    real, asked = home.store.parts, []

    async def parts(*given: Any, **named: Any) -> list[Part]:
        asked.append(given)
        found = await real(*given, **named)
        gone = Part(path=home.root / "gone.parquet", rows=1, first_ns=START_NS, last_ns=START_NS, size=1)
        return [gone] if len(asked) < 3 else found

    monkeypatch.setattr(home.store, "parts", parts)
    assert home.ids() == ["a"]
    assert len(asked) == 3
    asked.extend([()] * -10)
    monkeypatch.setattr(home.store, "parts", lambda *a, **n: _always(home.root))
    with pytest.raises(StorageFailed, match="vanish"):
        home.ids()


async def _always(root: Path) -> list[Part]:
    return [Part(path=root / "gone.parquet", rows=1, first_ns=START_NS, last_ns=START_NS, size=1)]


def test_what_is_not_kept_in_memory_is_read_again(tmp_path: Path) -> None:
    records = some_records(400)
    files = write_segments(tmp_path / "segments", records, segments=5, close=3)
    tail = Tail(tmp_path / "segments", tmp_path / "gateway", max_rows=100)
    tail.look()
    view = tail.view("iris", 0, 2**62)
    assert sum(len(chunk.columns) for _, chunk in view.chunks) < 400
    assert len(view.let_go) > 5
    seen = [one for _, columns in view.pieces() for one in columns.records("iris")]
    assert sorted(seen, key=lambda one: (one.stream, one.seq)) == sorted(records, key=lambda one: (one.stream, one.seq))
    for file in files:
        file.die()


def test_long_ids_that_come_after_their_records_were_read(home: Home) -> None:
    file = home.segment()
    long = "ab" * 40
    file.rows([row("x", 1), row(long, 2)])
    assert home.ids() == ["x", long[:36]]
    file.note(Kind.LONG_ID, {"1": long})
    assert home.ids() == ["x", long]
    found = home.records(where=(Condition("request_id", Operator.EQ, long),))
    assert [one.request_id for one in found] == [long]


@pytest.mark.parametrize(
    "condition",
    [
        Condition("colour", Operator.EQ, "red"),
        Condition("status", Operator.EQ, "200"),
        Condition("status", Operator.EQ, True),
        Condition("shed", Operator.EQ, 1),
        Condition("route", Operator.EQ, 3),
        Condition("status", Operator.LIKE, 2),
        Condition("total_ns", Operator.GT, 2**63),
    ],
)
def test_conditions_that_make_no_sense_are_refused(home: Home, condition: Condition) -> None:
    with pytest.raises(InvalidInput):
        home.records(where=(condition,))


# -- losses ----------------------------------------------------------------------------------------


def test_holes_between_segments_of_a_stream(home: Home) -> None:
    first = home.segment()
    first.rows([row()])
    first.close()
    third = home.segment(number=2, seq=5)
    third.rows([row()])
    assert home.losses() == Losses(missing=4)
    report = home.ingest()
    assert report.newly_lost == {"iris": Losses(missing=4)}
    assert home.ingest().newly_lost == {}
    home.compact()
    assert home.losses() == Losses(missing=4)
    second = home.segment(number=1, seq=1)
    second.rows([row()])
    second.drop(2)
    assert home.losses() == Losses(dropped=2, missing=1)
    assert home.ingest().newly_lost == {"iris": Losses(dropped=2)}


def test_the_first_segment_begins_at_zero_others_where_they_begin(home: Home) -> None:
    home.segment(number=7, seq=100).rows([row()])
    assert home.losses() == Losses()
    home.segment("iris-v1-other.0", seq=3).rows([row()])
    assert home.losses() == Losses(missing=3)


def test_the_clock_set_back_between_segments(home: Home) -> None:
    first, second = home.segment(), home.segment(number=1, seq=2)
    first.rows([row("a"), row("b", SECOND)])
    second.wall_ns -= 3600 * SECOND
    second.rows([row("c", 2 * SECOND)])
    home.segment("iris-v2-other.0").rows([row("d")])
    assert home.losses() == Losses(clock_steps=1)
    assert home.ids() == ["c", "a", "d", "b"]
    assert home.ingest().newly_lost == {"iris": Losses(clock_steps=1)}
    window = home.window()
    assert window is not None
    assert window.count == 4


def test_torn_is_counted_once_the_writer_is_gone(home: Home) -> None:
    file = home.segment()
    file.rows([row("a")])
    file.write(b"HWQ1 and then the lights went out")
    assert home.losses() == Losses()
    file.die()
    assert (home.ids(), home.losses()) == (["a"], Losses(torn=1))
    assert home.ingest().newly_lost == {"iris": Losses(torn=1)}
    home.compact()
    assert (home.ids(), home.losses()) == (["a"], Losses(torn=1))
    assert home.ingest().newly_lost == {}


def test_accounts_of_many_segments_that_are_gone_are_summed_up(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "MAX_ACCOUNTS", 3)
    for number in range(12):
        file = home.segment(number=number, seq=10 * number)
        file.rows([row()] * 8)
        file.drop(1)
        assert home.ingest().newly_lost == {"iris": Losses(dropped=1, missing=int(number > 0))}
        file.path.unlink()
    assert home.ingest().newly_lost == {}
