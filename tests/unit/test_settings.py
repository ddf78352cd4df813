"""Settings of the query log: what they mean, and how a wrong one is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from headway.settings import Settings


@pytest.fixture(autouse=True)
def _only_what_a_test_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"HEADWAY_{name.upper()}", raising=False)


def test_defaults() -> None:
    settings = Settings()
    assert settings.query_log
    assert settings.query_log_store is None
    assert (settings.query_log_max_age_s, settings.query_log_max_bytes) == (30 * 86_400, 20 * 2**30)
    assert settings.payload_max_bytes == 2**30


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("QUERY_LOG", "false", "query_log", False),
        ("QUERY_LOG_STORE", "s3://bucket/some/prefix", "query_log_store", "s3://bucket/some/prefix"),
        ("QUERY_LOG_STORE", "/var/lib/records", "query_log_store", "/var/lib/records"),
        ("QUERY_LOG_STORE", "~/records", "query_log_store", "~/records"),
        ("QUERY_LOG_RETENTION", "1d12h", "query_log_max_age_s", 129_600.0),
        ("QUERY_LOG_RETENTION", "unlimited", "query_log_max_age_s", None),
        ("QUERY_LOG_MAX_SIZE", "64Mi", "query_log_max_bytes", 64 * 2**20),
        ("QUERY_LOG_MAX_SIZE", "unlimited", "query_log_max_bytes", None),
        ("PAYLOAD_MAX_SIZE", "2Gi", "payload_max_bytes", 2 * 2**30),
        ("PAYLOAD_MAX_SIZE", "unlimited", "payload_max_bytes", None),
    ],
)
def test_a_setting(monkeypatch: pytest.MonkeyPatch, variable: str, text: str, name: str, value: object) -> None:
    monkeypatch.setenv(f"HEADWAY_{variable}", text)
    assert getattr(Settings(), name) == value


@pytest.mark.parametrize(
    ("variable", "text", "complaint"),
    [
        ("QUERY_LOG", "perhaps", "valid boolean"),
        ("QUERY_LOG_STORE", "", "is not absolute"),
        ("QUERY_LOG_STORE", "records", "is not absolute"),
        ("QUERY_LOG_STORE", "gs://bucket", "cannot hold the query log"),
        ("QUERY_LOG_STORE", "s3://", "names no bucket"),
        ("QUERY_LOG_STORE", "s3://key:secret@bucket/x", "cannot hold a key"),
        ("QUERY_LOG_STORE", "s3://bucket/x?region=y", "names no bucket"),
        ("QUERY_LOG_RETENTION", "30", "not a length of time"),
        ("QUERY_LOG_RETENTION", "59m", "at least 1h"),
        ("QUERY_LOG_MAX_SIZE", "much", "not a quantity"),
        ("QUERY_LOG_MAX_SIZE", "20M", "at least 64Mi"),
        ("PAYLOAD_MAX_SIZE", "1k", "at least 64Mi"),
    ],
)
def test_a_setting_that_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, text: str, complaint: str) -> None:
    monkeypatch.setenv(f"HEADWAY_{variable}", text)
    with pytest.raises(ValidationError) as refused:
        Settings()
    (told,) = refused.value.errors()
    assert told["loc"] == (variable.lower(),)
    assert complaint in told["msg"]
    assert not told["msg"].startswith("Value error")
    assert "secret@" not in told["msg"]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8421"),
        ("0.0.0.0", "http://127.0.0.1:8421"),
        ("::", "http://[::1]:8421"),
        ("::1", "http://[::1]:8421"),
        ("control.example", "http://control.example:8421"),
    ],
)
def test_where_the_control_api_is_found(host: str, url: str) -> None:
    assert Settings(control_host=host).control_url == url
