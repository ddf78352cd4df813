"""Which files of an hour count: names, live sources, and every set of files that a crash can leave."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.adapters.querylog.manifest import (
    Account,
    Holding,
    Note,
    choose,
    gateway_source,
    hour_name,
    is_live,
    merge_holds,
    merged_name,
    merged_number,
    parse_hour,
    part_name,
    part_source,
)


@dataclass(frozen=True)
class File:
    name: str


def note_of(*sources: str) -> Note:
    holds = tuple(Holding(source=source, rows=1, spans=((source, 0, 0),)) for source in sources)
    return Note(rows=len(sources), first_ns=0, last_ns=0, made_ns=0, holds=holds)


def test_hours_have_names_that_sort_by_time() -> None:
    assert hour_name(0) == "1970-01-01T00"
    assert hour_name(500_000) == "2027-01-15T08"
    assert [parse_hour(hour_name(hour)) for hour in (0, 7, 500_000, 2_500_000)] == [0, 7, 500_000, 2_500_000]


@pytest.mark.parametrize("text", ["", "2027-13-01T00", "2027-01-01T24", "2027-01-01", "2027-01-01T00Z", "x"])
def test_what_is_no_hour(text: str) -> None:
    assert parse_hour(text) is None


def test_names_of_files_tell_what_they_are() -> None:
    assert part_source(part_name("iris-v1-x.ab-3")) == "iris-v1-x.ab-3"
    assert merged_number(merged_name(7)) == 7
    assert merged_number(merged_name(12_345_678)) == 12_345_678
    assert part_source(merged_name(7)) is None
    assert merged_number(part_name("x-0")) is None
    assert merged_number("merged-7.parquet") is None


def test_what_is_live() -> None:
    assert is_live("s.a-0", {"s.a-0.hwq"})
    assert is_live("s.a-0", {"s.a-0"})
    assert not is_live("s.a-1", {"s.a-0.hwq", "gateway.ab@5"})
    assert is_live(gateway_source("ab", 10, 20), {"gateway.ab@10"})
    assert is_live(gateway_source("ab", 10, 20), {"gateway.ab@5"})
    assert not is_live(gateway_source("ab", 10, 20), {"gateway.ab@11"})
    assert not is_live(gateway_source("ab", 10, 20), {"gateway.cd@0"})
    assert is_live(gateway_source("ab", 0, 20), {"gateway.@0"})


def test_a_note_says_the_same_after_it_was_written() -> None:
    account = Account(stream="s", number=2, start_seq=1, next_seq=9, dropped=3, first_offset_ns=-5)
    holds = (
        Holding(source="s-2", rows=5, spans=(("s", 1, 5), ('t"', 7, 7)), account=account),
        Holding(source="t-0", rows=0, spans=()),
    )
    note = Note(rows=5, first_ns=-1, last_ns=2, made_ns=3, holds=holds)
    assert note.text().startswith('{"crc":"00000000"')
    assert Note.of(json.loads(note.text("ffffffff"))) == note
    with pytest.raises(ValueError, match="2"):
        Note.of({**json.loads(note.text()), "format": 2})


def test_a_higher_merged_file_counts_and_a_damaged_one_does_not() -> None:
    files = [File(merged_name(1)), File(merged_name(2)), File(part_name("a-0")), File(part_name("b-0"))]
    notes: dict[str, Note | None] = {
        merged_name(1): note_of("a-0"),
        merged_name(2): note_of("a-0", "b-0"),
        part_name("a-0"): note_of("a-0"),
        part_name("b-0"): note_of("b-0"),
    }
    choice = choose(files, notes)
    assert [chosen.file.name for chosen in choice.chosen] == [merged_name(2)]
    assert {file.name for file in choice.replaced} == {merged_name(1), part_name("a-0"), part_name("b-0")}
    assert choice.next_number == 3

    choice = choose(files, {**notes, merged_name(2): None})
    assert [chosen.file.name for chosen in choice.chosen] == [merged_name(1), part_name("b-0")]
    assert [file.name for file in choice.damaged] == [merged_name(2)]
    assert choice.next_number == 3


SOURCES = [f"s{number}-0" for number in range(6)]


@given(st.data())
def test_every_source_counts_once_whatever_was_merged_and_left(data: st.DataObject) -> None:
    """Merge some of what counts, again and again, and remove some of what is replaced."""
    present = {part_name(source): note_of(source) for source in SOURCES}
    for _ in range(data.draw(st.integers(0, 4))):
        choice = choose([File(name) for name in present], present)
        others = [chosen for chosen in choice.chosen if chosen is not choice.merged]
        taken = data.draw(st.lists(st.sampled_from(others), unique_by=lambda c: c.file.name)) if others else []
        inputs = [*([choice.merged] if choice.merged else []), *taken]
        if inputs:
            holds = merge_holds(chosen.note for chosen in inputs)
            present[merged_name(choice.next_number)] = note_of(*(hold.source for hold in holds))
        replaced = sorted(file.name for file in choose([File(name) for name in present], present).replaced)
        for name in data.draw(st.lists(st.sampled_from(replaced), unique=True)) if replaced else []:
            del present[name]
    live = frozenset(data.draw(st.lists(st.sampled_from(SOURCES), unique=True)))
    choice = choose([File(name) for name in data.draw(st.permutations(sorted(present)))], present, live)
    counted = [
        hold.source
        for chosen in choice.chosen
        for hold in chosen.note.holds
        if hold.source not in {hidden.source for hidden in chosen.hidden}
    ]
    assert sorted(counted) == sorted(set(SOURCES) - live)
