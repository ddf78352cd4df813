"""The collector while a model is loaded."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from headway.domain.errors import HeadwayError
from headway.server.config import ServerConfig
from headway.server.startup import load

CODE = """
import gc

seen = gc.get_threshold()


def predict(X):
    return list(seen)
"""


def config(bundle: Path) -> ServerConfig:
    return ServerConfig(
        replica_id="a-v1-aaaaa", model="a", version="v1", digest="0" * 64, bundle_path=str(bundle), listen="tcp:x:0"
    )


@pytest.mark.parametrize("code", [CODE, "raise ValueError('no')"])
def test_the_collector_rests_while_the_model_is_loaded_and_then_works_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    (tmp_path / "model.py").write_text(code)
    usual = gc.get_threshold()
    if code is CODE:
        model = load(config(tmp_path), [])
        assert model.predict(None, None)[0] > 10 * usual[0]
    else:
        with pytest.raises(HeadwayError):
            load(config(tmp_path), [])
    assert gc.get_threshold() == usual
