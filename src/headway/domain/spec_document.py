"""A deployment document as text: YAML or JSON, from whoever wrote it, read with bounds.

The text is read event by event and put together here, not by a general loader, so that every limit holds before
anything is built, and every refusal knows its line. What is left of YAML is what configuration needs:

* plain data only, resolved by the *core schema* of YAML 1.2 (section 10.3.2): ``true`` and ``false`` are booleans;
  ``yes``, ``on``, ``no`` and dates are text, which is what their authors mean;
* no tags, anchors or aliases (an alias of aliases can stand for more data than memory holds), one document, no key
  twice.

JSON is read as JSON (RFC 8259) first, since not all of it is YAML to every reader: tabs, escaped surrogate pairs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Protocol, TypeVar

import yaml

from headway.domain.errors import HeadwayError, InvalidInput, InvalidSpec
from headway.domain.spec import ModelDeployment, parse

T = TypeVar("T")

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 50
MAX_NUMBER: Final = 100
"""Digits of a number; Python refuses some thousand, nobody writes a hundred."""

_NULL = re.compile(r"(?:~|null|Null|NULL|)")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)")
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def parse_document(text: str, source: str) -> ModelDeployment:
    """The document that ``text`` is; ``source`` is its name for people, such as ``headway.yaml``.

    Raises ``InvalidSpec`` (and ``InvalidTraffic``) whose ``where`` begins with
    ``source:line:column``, both counted from 1.
    """
    return read_as(parse, text, source)


def read_each(text: str, source: str) -> list[tuple[object, Locate]]:
    """The data of every document in ``text``, empty ones left out, each with what finds places in it.

    Raises ``InvalidSpec``.
    """
    if source.lower().endswith(".json") or text.lstrip().startswith("{"):
        reading = _Reading(source)
        return [(_read(text, source, reading), Locate(text, reading))]
    _check_size(text, source)
    found: list[tuple[object, Locate]] = []
    events = _events(text.removeprefix("\ufeff"), _Reading(source))
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            reading = _Reading(source)
            data = _one_document(events, reading)
            if data is not None:
                found.append((data, Locate(text, reading)))
    if not found:
        _Reading(source).refuse("the document is empty", None, "headway init writes one to start with")
    return found


class Locate:
    """Gives the refusals of one document line and column."""

    def __init__(self, text: str, reading: _Reading) -> None:
        self._text = text
        self._reading = reading

    def run(self, build: Callable[[object], T], data: object) -> T:
        """What ``build`` makes of ``data``."""
        try:
            return build(data)
        except InvalidInput as error:
            where = _located(error.where, self._text, self._reading)
            raise type(error)(error.message, where=where, hint=error.hint, details=error.details) from None


def read_as(build: Callable[[object], T], text: str, source: str) -> T:
    """What ``build`` makes of the data in ``text``. The ``where`` of its refusals gets line and column in front."""
    reading = _Reading(source)
    data = _read(text, source, reading)
    return Locate(text, reading).run(build, data)


def _read(text: str, source: str, reading: _Reading) -> object:
    text = text.removeprefix("\ufeff")
    _check_size(text, source)
    is_json = source.lower().endswith(".json")
    if is_json or text.lstrip().startswith("{"):
        try:
            return _from_json(text)
        except json.JSONDecodeError as error:
            if is_json:
                raise InvalidSpec(
                    f"this is not JSON: {error.msg}", where=f"{source}:{error.lineno}:{error.colno}"
                ) from None
        except _Unfit as error:
            # As YAML it breaks the same rule; that reader can tell where.
            _from_yaml(_without_tabs(text), reading)
            raise InvalidSpec(str(error), where=source) from None
    return _from_yaml(text, reading)


def _check_size(text: str, source: str) -> None:
    if len(text) > MAX_BYTES or len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise InvalidSpec("the document is larger than 1 MiB", where=source)


# -- JSON --------------------------------------------------------------------------------------


def _without_tabs(text: str) -> str:
    """JSON for the YAML reader: there tabs are white space (within strings they are escaped), here they are not."""
    return text.removeprefix("\ufeff").replace("\t", " ")


class _Unfit(Exception):
    """JSON, but beyond a bound of ours."""


def _from_json(text: str) -> object:
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", _JSON_STRING.sub('""', text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise _Unfit(f"nested more than {MAX_DEPTH} levels deep")
    found = json.loads(
        text,
        object_pairs_hook=_json_object,
        parse_int=_json_number(int),
        parse_float=_json_number(float),
        parse_constant=_json_constant,
    )
    if any(_SURROGATE.search(one) for one in _strings(found)):
        raise _Unfit("half a surrogate pair is not text")
    return found


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from _strings(one)


def _json_number(kind: type[int] | type[float]) -> Any:
    def read(digits: str) -> int | float:
        if len(digits) > MAX_NUMBER:
            raise _Unfit(f"a number has more than {MAX_NUMBER} digits")
        return kind(digits)

    return read


def _json_constant(name: str) -> NoReturn:
    raise _Unfit(f"{name} is not JSON")


def _json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Unfit("a key stands twice in the same mapping")
    return found


# -- YAML --------------------------------------------------------------------------------------


class _Place(Protocol):
    """Line and column, both counted from 0; PyYAML's mark is one."""

    @property
    def line(self) -> int: ...

    @property
    def column(self) -> int: ...


@dataclass(frozen=True, slots=True)
class _At:
    line: int
    column: int


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being filled."""

    content: dict[str, Any] | list[Any]
    path: str
    key: str | None = None


@dataclass(slots=True)
class _Reading:
    """Where things stand: line and column of each value by its path (``spec.traffic[1].weight``)."""

    source: str
    marks: dict[str, tuple[int, int]] = field(default_factory=dict)

    def refuse(self, message: str, mark: _Place | None, hint: str | None = None) -> NoReturn:
        place = f"{self.source}:{mark.line + 1}:{mark.column + 1}" if mark is not None else self.source
        raise InvalidSpec(message, where=place, hint=hint)

    def remember(self, path: str, mark: _Place | None) -> None:
        if mark is not None:
            self.marks[path] = (mark.line + 1, mark.column + 1)


def _from_yaml(text: str, reading: _Reading) -> object:
    return _document(_events(text, reading), reading)


def _events(text: str, reading: _Reading) -> Iterator[yaml.Event]:
    """What the document consists of, in order; whatever PyYAML raises becomes ``InvalidSpec``."""
    try:
        yield from yaml.parse(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        said = error.problem or error.context or "it cannot be read"
        reading.refuse(f"this is not YAML: {said}", error.problem_mark or error.context_mark)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = _At(before.count("\n"), len(before) - before.rfind("\n") - 1)
        reading.refuse(f"{text[error.position : error.position + 1]!r} cannot stand in a document", place)
    except (yaml.YAMLError, ValueError, OverflowError):
        # "\\UFFFFFFFF", or a %YAML directive with thousands of digits: PyYAML lets int() and chr() raise.
        reading.refuse("this is not YAML: a character or version number that does not exist", None)


def _document(events: Iterator[yaml.Event], reading: _Reading) -> object:
    """The one document."""
    found = _one_document(events, reading)
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            reading.refuse("the document ends here and another begins", event.start_mark, "one model per file")
    if found is None:
        reading.refuse("the document is empty", None, "headway init writes one to start with")
    return found


def _one_document(events: Iterator[yaml.Event], reading: _Reading) -> object:
    """What comes until the end of a document, without recursion: ``[[[[…`` costs a list entry each, up to the limit."""
    stack: list[_Open] = []
    root: list[Any] = []
    for event in events:
        if isinstance(event, yaml.DocumentEndEvent):
            break
        if isinstance(event, yaml.AliasEvent):
            reading.refuse(f"aliases (*{str(event.anchor)[:40]}) are not supported", event.start_mark, "write it out")
        if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            stack.pop()
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        _check_node(event, reading)
        if len(stack) >= MAX_DEPTH and not isinstance(event, yaml.ScalarEvent):
            reading.refuse(f"nested more than {MAX_DEPTH} levels deep", event.start_mark)
        above = stack[-1] if stack else None
        if above is not None and isinstance(above.content, dict) and above.key is None:
            above.key = _key(event, above.content, reading)
            reading.remember(_path(above), event.start_mark)
            continue
        path = _path(above)
        if above is None or isinstance(above.content, list):
            reading.remember(path, event.start_mark)
        value = _value(event, reading)
        if above is None:
            root.append(value)
        elif isinstance(above.content, list):
            above.content.append(value)
        elif above.key is not None:
            above.content[above.key] = value
            above.key = None
        if isinstance(value, dict | list):
            stack.append(_Open(value, path))
    if not root or root[0] is None:
        return None
    if not isinstance(root[0], dict):
        kind = "a list" if isinstance(root[0], list) else "a single value"
        reading.refuse(f"the document must be a mapping, this is {kind}", None, "it begins with apiVersion: and kind:")
    return root[0]


def _check_node(event: yaml.NodeEvent, reading: _Reading) -> None:
    if event.anchor is not None:
        reading.refuse(f"anchors (&{event.anchor[:40]}) are not supported", event.start_mark, "write it out")
    tag = getattr(event, "tag", None)
    if tag is not None:
        reading.refuse(
            f"tags ({tag[:80]}) are not supported", event.start_mark, "plain values, lists and mappings only"
        )


def _path(above: _Open | None) -> str:
    if above is None:
        return ""
    if isinstance(above.content, list):
        return f"{above.path}[{len(above.content)}]"
    return f"{above.path}.{above.key}".lstrip(".")


def _key(event: yaml.NodeEvent, present: dict[str, Any], reading: _Reading) -> str:
    key = _value(event, reading)
    if not isinstance(key, str):
        reading.refuse("a key must be text", event.start_mark, "put it in quotes")
    if key in present:
        reading.refuse(f"the key {key[:80]!r} stands here a second time", event.start_mark)
    return key


def _value(event: yaml.NodeEvent, reading: _Reading) -> Any:
    if isinstance(event, yaml.MappingStartEvent):
        return {}
    if isinstance(event, yaml.SequenceStartEvent):
        return []
    assert isinstance(event, yaml.ScalarEvent)
    if _SURROGATE.search(event.value):
        reading.refuse("half a surrogate pair is not text", event.start_mark)
    return event.value if event.style else _plain(event, reading)


def _plain(event: yaml.ScalarEvent, reading: _Reading) -> Any:
    """A scalar without quotes, by the core schema."""
    text: str = event.value
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INFINITE.fullmatch(text):
        return float(text.lower().replace(".", ""))
    for pattern, base in ((_INT, 10), (_OCTAL, 8), (_HEX, 16)):
        if pattern.fullmatch(text):
            return int(_short(event, reading), base)
    return float(_short(event, reading)) if _FLOAT.fullmatch(text) else text


def _short(event: yaml.ScalarEvent, reading: _Reading) -> str:
    if len(event.value) > MAX_NUMBER:
        reading.refuse(f"a number has more than {MAX_NUMBER} digits", event.start_mark)
    return str(event.value)


# -- where ---------------------------------------------------------------------------------------


def _located(where: str | None, text: str, reading: _Reading) -> str:
    """``spec.modle`` -> ``headway.yaml:7:3: spec.modle``; what is missing is told at the mapping it belongs to."""
    if not reading.marks:
        try:
            _from_yaml(_without_tabs(text), reading)
        except HeadwayError:
            reading.marks.clear()
    place = path = (where or "").removeprefix("document")
    while path and path not in reading.marks:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    line, column = reading.marks.get(path, (0, 0))
    found = f"{reading.source}:{line}:{column}" if line else reading.source
    return f"{found}: {place}" if place else found
