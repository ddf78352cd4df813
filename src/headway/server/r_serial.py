"""R's own serialization format, as ``serialize(x, NULL, xdr = FALSE)`` writes and ``unserialize`` reads it.

So R makes a whole data frame, factors and dates included, of one message in native code, and no line of R is
interpreted for it (docs/decisions/0008-r-models.md has the measurements). Read and written is what data is made of:
NULL, logical, integer, double, character and raw vectors, lists, and their attributes. Code, environments and pointers
are not: what comes from R was made plain there (``r/bridge.R``), so one of them here is a fault.

Source: R Internals, 1.8 "Serialization Formats"; version 2 of the format, native byte order.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

HEADER: Final = b"B\n" + struct.pack("=iii", 2, 0x040000, 0x020300)
NULL: Final = struct.pack("=i", 254)
NA_INTEGER: Final = -(2**31)
NA_REAL: Final[float] = struct.unpack("=d", struct.pack("=Q", 0x7FF8_0000_0000_07A2))[0]
"""A NaN whose lower half is 1954: how R tells NA from NaN. The quiet one of the two, which no processor changes."""

_LOGICAL, _INTEGER, _REAL, _CHARACTER, _LIST, _RAW = 10, 13, 14, 16, 19, 24
_SYMBOL, _PAIRS, _CHARS, _REFERENCE, _NULL = 1, 2, 9, 255, 254
_OBJECT, _ATTRIBUTES, _TAG = 0x100, 0x200, 0x400
_NA_TEXT: Final = struct.pack("=ii", _CHARS, -1)
_LATIN1 = 0x4000
_KINDS: Final = {
    _LOGICAL: "logical",
    _INTEGER: "integer",
    _REAL: "double",
    _CHARACTER: "character",
    _LIST: "list",
    _RAW: "raw",
}


class NoData(ValueError):
    """What has no form here: bytes that are no such message, or a value that R has no type for."""


@dataclass(slots=True)
class RValue:
    """A vector of R. ``values``: bool, int, float, str or None (NA) by ``kind``; RValues in a list; bytes if raw.

    A missing double is a NaN, see :func:`is_na`.
    """

    kind: str
    values: Any
    attributes: dict[str, RValue | None] = field(default_factory=dict)

    def strings(self, attribute: str) -> tuple[str, ...]:
        """The attribute as strings; none when it is not there."""
        found = self.attributes.get(attribute)
        return () if found is None else tuple(str(value) for value in found.values)


def is_na(value: float) -> bool:
    """Whether a NaN is R's NA."""
    bits: int = struct.unpack("=Q", struct.pack("=d", value))[0]
    return value != value and bits & 0xFFFF_FFFF == 1954


# -- writing -------------------------------------------------------------------------------------


def chars(text: str | None) -> bytes:
    """One element of a character vector. Raises :class:`NoData` for a NUL, which R's strings cannot hold."""
    if text is None:
        return _NA_TEXT
    if "\0" in text:
        raise NoData("text with a NUL character")
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise NoData("text that is not Unicode (half of a surrogate pair)") from None
    return struct.pack("=ii", 0x40009 if text.isascii() else 0x8009, len(data)) + data


def character(values: Sequence[str | None], attributes: bytes = b"", *, is_object: bool = False) -> bytes:
    """A character vector."""
    return _vector(_CHARACTER, len(values), b"".join(map(chars, values)), attributes, is_object=is_object)


def double(values: Iterable[float | None], count: int, attributes: bytes = b"", *, is_object: bool = False) -> bytes:
    """A numeric vector; None is NA. Raises ``OverflowError`` for whole numbers beyond float64."""
    try:
        data = array("d", values).tobytes()  # type: ignore[type-var]
    except TypeError:
        data = array("d", [NA_REAL if value is None else value for value in values]).tobytes()
    return _vector(_REAL, count, data, attributes, is_object=is_object)


def raw_double(data: bytes) -> bytes:
    """A numeric vector of its values in memory."""
    return _vector(_REAL, len(data) // 8, data)


def raw_integer(data: bytes) -> bytes:
    """An integer vector of its values in memory."""
    return _vector(_INTEGER, len(data) // 4, data)


def integer(values: Sequence[int | None], attributes: bytes = b"", *, is_object: bool = False) -> bytes:
    """An integer vector; None is NA. Values are within 32 bits."""
    data = array("i", [NA_INTEGER if value is None else value for value in values]).tobytes()
    return _vector(_INTEGER, len(values), data, attributes, is_object=is_object)


def logical(values: Sequence[bool | None]) -> bytes:
    """A logical vector; None is NA."""
    data = array("i", [NA_INTEGER if value is None else int(value) for value in values]).tobytes()
    return _vector(_LOGICAL, len(values), data)


def raw(data: bytes) -> bytes:
    """A raw vector."""
    return _vector(_RAW, len(data), data)


def items(parts: Sequence[bytes], attributes: bytes = b"", *, is_object: bool = False) -> bytes:
    """A list of what is written already."""
    return _vector(_LIST, len(parts), b"".join(parts), attributes, is_object=is_object)


def attributes(pairs: Mapping[str, bytes]) -> bytes:
    """Attributes for a vector, of what is written already."""
    head = struct.pack("=ii", _PAIRS | _TAG, _SYMBOL)
    return b"".join(head + chars(name) + value for name, value in pairs.items()) + NULL


def value_of(value: Any) -> bytes:
    """Plain JSON as R would write it by hand: a list of numbers, of strings or of booleans is a vector, an object a
    named list, any other list a list. Raises :class:`NoData`."""
    if isinstance(value, dict):
        named = attributes({"names": character([str(name) for name in value])}) if value else b""
        return items([value_of(item) for item in value.values()], named)
    if isinstance(value, bytes):
        return raw(value)
    if isinstance(value, list | tuple):
        kinds = set(map(type, value)) - {type(None)}
        if (
            not kinds
            or not kinds <= {bool, int, float, str}
            or len(kinds - {int, float}) + bool(kinds & {int, float}) > 1
        ):
            return items([value_of(item) for item in value])
        return _atomic(list(value), kinds)
    return NULL if value is None else _atomic([value], {type(value)})


def _atomic(values: list[Any], kinds: set[type]) -> bytes:
    if kinds == {bool}:
        return logical(values)
    if kinds == {str}:
        return character(values)
    if kinds == {int} and all(value is None or abs(value) < 2**31 for value in values):
        return integer(values)
    try:
        return double(values, len(values))
    except (TypeError, OverflowError) as error:
        raise NoData(str(error)) from None


def _vector(kind: int, count: int, data: bytes, attached: bytes = b"", *, is_object: bool = False) -> bytes:
    flags = kind | (_ATTRIBUTES if attached else 0) | (_OBJECT if is_object else 0)
    return struct.pack("=ii", flags, count) + data + attached


# -- reading -------------------------------------------------------------------------------------


def read(data: bytes | bytearray | memoryview) -> RValue | None:
    """The value in a whole message, None being NULL. Raises :class:`NoData`."""
    view = memoryview(data)
    if bytes(view[:2]) != b"B\n":
        raise NoData("not a message of R")
    try:
        return _Reader(view).item()
    except (struct.error, IndexError) as error:
        raise NoData(f"a message of R that ends too soon ({error})") from None


class _Reader:
    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = len(HEADER)
        self._symbols: list[str] = []

    def item(self) -> RValue | None:
        flags = self._int()
        kind = flags & 0xFF
        if kind == _NULL:
            return None
        if kind not in _KINDS:
            raise NoData(f"a value of R's internal type {kind}")
        value = RValue(_KINDS[kind], self._values(kind))
        if flags & _ATTRIBUTES:
            value.attributes = self._pairs()
        return value

    def _values(self, kind: int) -> Any:
        count = self._int()
        if count == -1:  # above 2^31 elements
            high, low = self._int(), self._int()
            count = (high << 32) + (low & 0xFFFF_FFFF)
        if kind == _REAL:
            return self._numbers("d", count)
        if kind == _LOGICAL:
            return [None if value == NA_INTEGER else value != 0 for value in self._numbers("i", count)]
        if kind == _INTEGER:
            found = self._numbers("i", count)
            return [None if value == NA_INTEGER else value for value in found] if NA_INTEGER in found else found
        if kind == _RAW:
            return bytes(self._take(count))
        if kind == _CHARACTER:
            return [self._chars(self._int()) for _ in range(count)]
        return [self.item() for _ in range(count)]

    def _pairs(self) -> dict[str, RValue | None]:
        found: dict[str, RValue | None] = {}
        while (flags := self._int()) & 0xFF == _PAIRS:
            name = self._symbol() if flags & _TAG else ""
            found[name] = self.item()
        return found

    def _symbol(self) -> str:
        flags = self._int()
        if flags & 0xFF == _REFERENCE:
            return self._symbols[(flags >> 8 or self._int()) - 1]
        if flags & 0xFF != _SYMBOL:
            raise NoData("an attribute without a name")
        self._symbols.append(self._chars(self._int()) or "")
        return self._symbols[-1]

    def _chars(self, flags: int) -> str | None:
        length = self._int()
        if length < 0:
            return None
        data = bytes(self._take(length))
        if flags & _LATIN1:
            return data.decode("latin-1")
        return data.decode(errors="backslashreplace")

    def _numbers(self, code: str, count: int) -> list[Any]:
        found = array(code)
        found.frombytes(self._take(count * found.itemsize))
        return found.tolist()

    def _take(self, count: int) -> memoryview:
        start, self._at = self._at, self._at + count
        if count < 0 or self._at > len(self._view):
            raise NoData("a message of R that ends too soon")
        return self._view[start : self._at]

    def _int(self) -> int:
        value: int = struct.unpack_from("=i", self._view, self._at)[0]
        self._at += 4
        return value
