"""The glossary: in order, each word once, no word that nobody uses, no rival of a chosen word."""

from __future__ import annotations

import re

import pytest

from scripts.check_docs import CODE_SPAN, FENCE, ROOT, pages

GLOSSARY = ROOT / "docs" / "glossary.md"
WORDS = re.findall(r"^\*\*(.+)\*\*$", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
# What others call the same thing; here it has one name.
RIVALS = {"endpoint group": "deployment", "pod": "replica", "revision": "version", "model registry": "home"}


def test_words_are_in_order_and_stand_once() -> None:
    assert len(WORDS) > 30
    assert sorted(set(WORDS), key=str.lower) == WORDS


def test_every_word_is_used_elsewhere() -> None:
    elsewhere = " ".join(page.read_text(encoding="utf-8") for page in pages() if page != GLOSSARY).lower()
    unused = [w for w in WORDS if not re.search(rf"\b{re.escape(w.lower())}s?\b", elsewhere)]
    assert not unused


def prose(text: str) -> str:
    """Without code, where links lead, and Kubernetes' own names."""
    for other in (FENCE, CODE_SPAN, re.compile(r"\]\([^)]*\)"), re.compile(r"Horizontal Pod Autoscal\w+")):
        text = other.sub("", text)
    return text


@pytest.mark.parametrize(("rival", "ours"), RIVALS.items())
def test_no_rival_of_a_chosen_word_is_used(rival: str, ours: str) -> None:
    for page in pages():
        if "kubernetes" in page.name and rival == "pod":
            continue  # there a replica is a pod, and Kubernetes' own rules for pods are told
        told = prose(page.read_text(encoding="utf-8"))
        assert not re.search(rf"\b{rival}s?\b", told, re.IGNORECASE), f"{page.name} says {rival}; here it is {ours}"


def test_a_rival_in_a_sentence_is_noticed() -> None:
    assert "pod" in prose("Each `pod` of [the pod](pod.md)")
    assert "pod" not in prose("```text\npod\n```\n`pod` [it](pod.md), Horizontal Pod Autoscaler").lower()
