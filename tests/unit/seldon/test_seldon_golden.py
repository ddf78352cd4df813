"""SeldonDeployments as their documentation writes them, and what they are here, word for word.

After a change on purpose: ``UPDATE_GOLDEN=1 pytest tests/unit/seldon/test_seldon_golden.py``, and read the difference.
"""

from __future__ import annotations

import os

import pytest

from headway.client.yaml_text import as_yaml
from headway.domain.seldon import translate
from headway.domain.spec import parse
from headway.domain.spec_document import read_each
from tests.unit.seldon.conftest import DOCUMENTS, Given

FOLDERS = {
    "iris": Given({"flowers/iris": "iris"}),
    "canary": Given(),
    "shadow": Given({"step": "step"}),
    "graph": Given({"shout": "shout", "scale": "scale", "bandit": "bandit", "org/add": "add", "most": "most"}),
    "hpa": Given(),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_golden(name: str) -> None:
    ((data, _),) = read_each((DOCUMENTS / f"{name}.yaml").read_text(), name)
    found = translate(data, FOLDERS[name])
    text = as_yaml(found.documents, found.notes)
    golden = DOCUMENTS / f"{name}.headway.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("name", FOLDERS)
def test_what_is_written_reads_as_the_same(name: str) -> None:
    ((data, _),) = read_each((DOCUMENTS / f"{name}.yaml").read_text(), name)
    documents = translate(data, FOLDERS[name]).documents
    again = [parse(one) for one, _ in read_each(as_yaml(documents, ["a: note"]), "again")]
    assert again == [parse(document) for document in documents]
