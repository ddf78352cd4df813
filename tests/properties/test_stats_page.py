"""A stats page that is damaged or torn is never read as something that nobody wrote."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headway.domain.stats_page import Head, Page, Slot, empty_page, page_bytes, read_page, slot_record

WORD = st.integers(0, 2**64 - 1)
HALF = st.integers(0, 2**32 - 1)
heads = st.builds(Head, st.integers(1, 64), HALF, WORD, WORD)
slots = st.builds(Slot, st.integers(1, 2**64 - 1), WORD, HALF, HALF, HALF, WORD, WORD, WORD)


def put(page: bytearray, place: int, slot: Slot) -> tuple[int, bytes]:
    start, record = slot_record(place, slot)
    page[start : start + len(record)] = record
    return start, record


@given(heads, st.data())
def test_what_is_written_is_read(head: Head, data: st.DataObject) -> None:
    page = bytearray(empty_page(head))
    assert len(page) == page_bytes(head.workers)
    assert read_page(bytes(page)) == Page(head, (Slot(),) * head.workers)
    written = {place: data.draw(slots) for place in data.draw(st.sets(st.integers(0, head.workers - 1)))}
    for place, slot in written.items():
        put(page, place, slot)
    assert read_page(bytes(page) + b"more") == Page(
        head, tuple(written.get(place, Slot()) for place in range(head.workers))
    )


@given(slots, slots, st.data())
def test_a_record_that_is_half_written_leaves_the_one_before(first: Slot, second: Slot, data: st.DataObject) -> None:
    first = first._replace(sequence=first.sequence % 2**63 + 1)
    second = second._replace(sequence=first.sequence + 1)
    page = bytearray(empty_page(Head(1, 1, 1, 1)))
    put(page, 0, first)
    start, record = slot_record(0, second)
    cut = data.draw(st.integers(0, len(record)))
    page[start : start + cut] = record[:cut]
    found = read_page(bytes(page))
    assert found is not None
    assert found.slots[0] in (first, second)
    assert cut < len(record) or found.slots[0] == second


@given(slots, st.data())
def test_a_changed_byte_is_noticed(slot: Slot, data: st.DataObject) -> None:
    head = Head(1, 7, 8, 9)
    page = bytearray(empty_page(head))
    start, record = put(page, 0, slot)
    place = data.draw(st.integers(start, start + len(record) - 1) | st.integers(0, 35))
    page[place] ^= data.draw(st.integers(1, 255))
    assert read_page(bytes(page)) is None


@given(heads, st.data())
def test_a_page_that_is_cut_short_is_not_read(head: Head, data: st.DataObject) -> None:
    page = empty_page(head)
    assert read_page(page[: data.draw(st.integers(0, len(page) - 1))]) is None


@given(st.lists(slots, min_size=1, max_size=4), st.integers(0, 10**12))
def test_integrals_grow_with_what_is_in_flight(made: list[Slot], later_ns: int) -> None:
    made = [slot._replace(at_ns=10**9, in_flight=slot.in_flight % 1000, waiting=slot.waiting % 1000) for slot in made]
    made = [slot._replace(in_flight_ns=slot.in_flight_ns % 2**50, queue_ns=slot.queue_ns % 2**50) for slot in made]
    page = Page(Head(len(made), 1, 1, 1), tuple(made))
    before, after = page.totals(10**9), page.totals(10**9 + later_ns)
    slack = 1e-9 * (1 + after.in_flight_s + after.queue_s)
    assert abs(after.in_flight_s - before.in_flight_s - sum(s.in_flight for s in made) * later_ns / 1e9) < slack
    assert abs(after.queue_s - before.queue_s - sum(s.waiting for s in made) * later_ns / 1e9) < slack
    assert (before.in_flight, before.finished) == (after.in_flight, after.finished)
