"""Deployment documents as text: what is read, what is refused, and where it says the fault lies."""

from __future__ import annotations

from typing import Any

import pytest

from headway.domain.errors import InvalidInput, InvalidSpec, InvalidTraffic
from headway.domain.spec_document import MAX_DEPTH, parse_document


def refused(text: str, source: str = "headway.yaml") -> InvalidInput:
    with pytest.raises(InvalidInput) as raised:
        parse_document(text, source)
    return raised.value


def values(text: str) -> dict[str, Any]:
    """What environment variables a document sets; their values must be text."""
    document = parse_document(f"metadata: {{name: iris}}\nspec:\n  env:\n{text}", "headway.yaml")
    return document.spec.env()


def test_a_whole_document_is_read() -> None:
    document = parse_document(
        """\
# production
apiVersion: headway.dev/v1alpha1
kind: ModelDeployment
metadata: {name: iris}
spec:
  model:
    entrypoint: "model:Iris"
  resources: {cpu: 2, memory: 512Mi}
  server: {maxBatchDelay: 2ms}
  scaling: {minReplicas: 3}
  traffic:
    - {version: v1, weight: 90}
    - {version: v2, weight: 10}
""",
        "headway.yaml",
    )
    assert document.metadata.name == "iris"
    assert document.spec.cpu_millicores() == 2000
    assert document.spec.scaling.min_replicas == 3
    assert [arm.weight for arm in document.spec.traffic or []] == [90, 10]


@pytest.mark.parametrize("source", ["headway.yaml", "iris.json"])
def test_json_is_read_as_json(source: str) -> None:
    text = '\ufeff{"metadata":\t{"name": "iris"},\n"spec": {"env": [{"name": "A", "value": "\\ud83d\\ude00\\/[{"}]}}'
    assert parse_document(text, source).spec.env() == {"A": "😀/[{"}


def test_yaml_in_flow_style_is_read_though_it_looks_like_json() -> None:
    assert parse_document("{metadata: {name: iris}}", "headway.yaml").metadata.name == "iris"


@pytest.mark.parametrize(
    "word", ["yes", "on", "NO", "2024-01-02", "12:30:45", "1_000", "0b1", "<<", "=", "1.2.3", "nul"]
)
def test_only_the_core_schema_turns_words_into_something_else(word: str) -> None:
    assert values(f"    - {{name: A, value: {word}}}") == {"A": word}


@pytest.mark.parametrize("word", ["true", "False", "null", "~", "1", "-2", "0x1F", "0o17", "1.5", "1e3", ".inf", ""])
def test_what_is_no_text_is_not_taken_for_text(word: str) -> None:
    error = refused(f"metadata: {{name: iris}}\nspec: {{env: [{{name: A, value: {word}}}]}}")
    assert error.where == "headway.yaml:2:24: spec.env[0].value"


@pytest.mark.parametrize("style", ["'1'", '"1"', "|-\n        1", ">-\n        1"])
def test_what_is_quoted_is_text(style: str) -> None:
    assert values(f"    - name: A\n      value: {style}") == {"A": "1"}


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("a: 1\nb: 2\na: 3", "headway.yaml:3:1", "the key 'a' stands here a second time"),
        ("a:\n  - {b: 1,\n     b: 2}", "headway.yaml:3:6", "a second time"),
        ("a: b: c", "headway.yaml:1:5", "not YAML"),
        ("a:\n\t- b", "headway.yaml:2:1", "not YAML"),
        ("a: [", "headway.yaml:1:5", "not YAML"),
        ("a: b\n---\nc: d", "headway.yaml:2:1", "another begins"),
        ("a: &x b", "headway.yaml:1:4", "anchors (&x) are not supported"),
        ("a: *x", "headway.yaml:1:4", "aliases (*x) are not supported"),
        ("a: !!str b", "headway.yaml:1:4", "tags (tag:yaml.org,2002:str) are not supported"),
        ("!!python/object/apply:os.system [ls]", "headway.yaml:1:1", "are not supported"),
        ("a: !custom {b: c}", "headway.yaml:1:4", "tags (!custom)"),
        ("1: a", "headway.yaml:1:1", "a key must be text"),
        ("? [a]\n: b", "headway.yaml:1:3", "a key must be text"),
        ("a: x\x00y", "headway.yaml:1:5", "'\\x00' cannot stand in a document"),
        ("a: b\nc: d\x1be", "headway.yaml:2:5", "cannot stand in a document"),
        ('a: "\\ud800"', "headway.yaml:1:4", "half a surrogate pair"),
        ('a: "\\UFFFFFFFF"', "headway.yaml", "not YAML"),
        ("%YAML 1." + "9" * 5000 + "\n--- a", "headway.yaml", "not YAML"),
        ("a: \ud800", "headway.yaml:1:4", "cannot stand in a document"),
        ("a: " + "9" * 5000, "headway.yaml:1:4", "more than 100 digits"),
        ("a: 1e" + "9" * 5000, "headway.yaml:1:4", "more than 100 digits"),
        ("", "headway.yaml", "the document is empty"),
        ("# nothing\n---\n...\n", "headway.yaml", "the document is empty"),
        ("null", "headway.yaml", "the document is empty"),
        ("[a]", "headway.yaml", "must be a mapping, this is a list"),
        ("iris", "headway.yaml", "must be a mapping, this is a single value"),
        ("# " + "x" * 1_048_576, "headway.yaml", "larger than 1 MiB"),
        ("# " + "ü" * 600_000, "headway.yaml", "larger than 1 MiB"),
    ],
)
def test_what_is_no_document_is_refused_with_its_place(text: str, where: str, message: str) -> None:
    error = refused(text)
    assert type(error) is InvalidSpec
    assert (error.where, message in error.message) == (where, True), error


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ('{"a": 1,\n "a": 2}', "iris.json:2:2", "a second time"),
        ('{"a":\t1,\t"a": 2}', "iris.json:1:10", "a second time"),
        ('{"a": "\\udc00"}', "iris.json:1:7", "half a surrogate pair"),
        ('{"a": ["\\udc00"]}', "iris.json:1:8", "half a surrogate pair"),
        ('{"a": NaN}', "iris.json", "NaN is not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "iris.json:1:7", "more than 100 digits"),
        ('{"a": 1,}', "iris.json:1:9", "not JSON"),
        ("a: 1", "iris.json:1:1", "not JSON"),
        ("", "iris.json:1:1", "not JSON"),
        ("[1]", "iris.json", "must be a mapping"),
        ('{"a":' + "[" * 60 + "]" * 60 + "}", f"iris.json:1:{5 + MAX_DEPTH}", "nested"),
    ],
)
def test_what_is_no_json_document_is_refused_with_its_place(text: str, where: str, message: str) -> None:
    error = refused(text, "iris.json")
    assert type(error) is InvalidSpec
    assert (error.where, message in error.message) == (where, True), error


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, '{"a":' * 100_000, "- " * 100_000, "? " * 100_000])
@pytest.mark.parametrize("source", ["headway.yaml", "headway.json"])
def test_deep_nesting_is_refused_soon_and_without_recursion(text: str, source: str) -> None:
    assert type(refused(text, source)) is InvalidSpec


def test_an_alias_bomb_never_goes_off() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    assert refused("\n".join(lines)).where == "headway.yaml:1:5"


@pytest.mark.parametrize(
    ("spec", "kind", "where", "message"),
    [
        ("  modle: {}\n", InvalidSpec, "headway.yaml:3:3: spec.modle", "did you mean model?"),
        ("  server:\n    maxQueue: many\n", InvalidSpec, "headway.yaml:4:5: spec.server.maxQueue", "number"),
        ("  env:\n  - {name: A}\n", InvalidSpec, "headway.yaml:4:5: spec.env[0].value", "required"),
        ("  traffic:\n  - {version: v1, weight: 3}\n", InvalidTraffic, "headway.yaml:3:3: spec.traffic", "sum to 3"),
        ("  jobs: {timeout: 5}\n", InvalidSpec, "headway.yaml:3:10: spec.jobs.timeout", "needs a unit"),
    ],
)
def test_what_the_schema_refuses_is_told_with_its_line(
    spec: str, kind: type[InvalidInput], where: str, message: str
) -> None:
    error = refused(f"metadata: {{name: iris}}\nspec:\n{spec}")
    assert type(error) is kind
    assert (error.where, message in error.message) == (where, True), error


def test_json_that_the_schema_refuses_is_told_with_its_line_too() -> None:
    error = refused('{"metadata": {"name": "iris"},\n\t"spec": {"modle": {}}}', "iris.json")
    assert error.where == "iris.json:2:11: spec.modle"


def test_what_is_missing_altogether_is_told_at_the_beginning() -> None:
    assert refused("\nspec: {}").where == "headway.yaml:2:1: metadata"


def test_all_problems_are_told_at_once() -> None:
    error = refused("metadata: {name: Iris}\nspec: {a: 1, b: 2}")
    assert [problem["where"] for problem in error.details["problems"]] == ["metadata.name", "spec.a", "spec.b"]
