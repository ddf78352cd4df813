"""What is drift, and what is only another way to say the same."""

from __future__ import annotations

from typing import Any

import pytest

from headway.domain.cluster_drift import APPLIED, says, stamped

WANTED = {
    "metadata": {"name": "iris", "labels": {"a": "b"}},
    "spec": {
        "replicas": 2,
        "template": {
            "spec": {
                "containers": [
                    {"name": "model", "image": "x", "args": ["a", "b"], "resources": {"requests": {"cpu": "1000m"}}}
                ]
            }
        },
    },
}


def changed(**parts: Any) -> dict[str, Any]:
    container = {"name": "model", "image": "x", "args": ["a", "b"], "resources": {"requests": {"cpu": "1"}}, **parts}
    return {
        "metadata": {"name": "iris", "labels": {"a": "b", "c": "d"}, "resourceVersion": "7"},
        "spec": {
            "replicas": 2, "paused": False,
            "template": {"spec": {"dnsPolicy": "ClusterFirst", "containers": [{"name": "sidecar"}, container]}},
        },
    }  # fmt: skip


def test_what_the_server_and_others_add_is_no_drift() -> None:
    assert says(changed(), WANTED)


@pytest.mark.parametrize(
    "parts",
    [
        {"image": "y"},
        {"args": ["a"]},
        {"args": ["a", "b", "c"]},
        {"args": ["b", "a"]},
        {"args": "ab"},
        {"name": "other"},
        {"resources": {"requests": {"cpu": "2"}}},
        {"resources": {"requests": {}}},
        {"resources": None},
    ],
)
def test_another_value_is(parts: dict[str, Any]) -> None:
    assert not says(changed(**parts), WANTED)


def test_nothing_at_all_says_nothing() -> None:
    assert not says(None, WANTED)
    assert says(None, {})


@pytest.mark.parametrize(
    ("one", "other"),
    [("1000m", "1"), ("1Gi", "1024Mi"), ("0.5", "500m"), ("1k", "1000"), ("1500Mi", "1572864000"), ("100u", "0.1m")],
)
def test_quantities_are_what_they_amount_to(one: str, other: str) -> None:
    for live, wanted in ((one, other), (other, one)):
        assert says({"limits": {"memory": live}}, {"limits": {"memory": wanted}})
        assert not says({"image": live}, {"image": wanted})
    assert not says({"limits": {"memory": one}}, {"limits": {"memory": "7"}})


@pytest.mark.parametrize("odd", ["", "x", "1Q", None, [], "1.2.3"])
def test_what_is_no_quantity_is_compared_as_it_is(odd: Any) -> None:
    assert says({"limits": {"cpu": odd}}, {"limits": {"cpu": odd}})
    assert not says({"limits": {"cpu": odd}}, {"limits": {"cpu": "1"}})


def test_a_field_less_is_another_digest() -> None:
    more, less = stamped(WANTED), stamped({**WANTED, "spec": {"replicas": 2}})
    assert says(more, WANTED)
    assert more["metadata"]["annotations"][APPLIED] != less["metadata"]["annotations"][APPLIED]
    assert not says(more, less)
    assert stamped(WANTED) == more
    assert WANTED["metadata"] == {"name": "iris", "labels": {"a": "b"}}
