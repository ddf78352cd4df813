"""The query log of a real installation with its records in a bucket of a real server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import obstore
from obstore.store import S3Store

from tests.e2e.calls import Caller
from tests.e2e.test_query_log import CODE, FAST, records, windows_count
from tests.installation import Installation
from tests.integration.state.test_query_log_object_store import server as server  # a fixture
from tests.waiting import wait_until


def test_records_go_to_a_bucket(server: str, installation: Installation, write_model: Callable[..., Path]) -> None:
    installation.env.update(
        AWS_ENDPOINT_URL=server,
        AWS_ACCESS_KEY_ID="key",
        AWS_SECRET_ACCESS_KEY="secret",
        AWS_REGION="us-east-1",
        HEADWAY_QUERY_LOG_STORE="s3://not-yet-there/home",
    )
    bucket = S3Store(
        "not-yet-there",
        prefix="home",
        endpoint=server,
        access_key_id="key",
        secret_access_key="secret",
        client_options={"allow_http": True},
    )
    installation.up()
    installation.ok("deploy", str(write_model("iris", CODE)))
    call = Caller(installation.data_url)
    for _ in range(8):
        assert call("/models/iris/predict", FAST).status == 200
    call.close()

    def told(kind: str) -> bool:
        return kind in installation.ok("events", "-o", "json").text

    wait_until(lambda: told("query_log_failed.v1"), what="that there is no such bucket")
    assert not told("query_log_recovered.v1")
    obstore.put(bucket, "now-there-is", b"")
    wait_until(lambda: told("query_log_recovered.v1"))
    assert windows_count(installation) == 8
    installation.ok("delete", "iris", "--yes")
    wait_until(lambda: [one for page in obstore.list(bucket) for one in page if "model=iris/" in one["path"]])
    assert len(records(installation)) == windows_count(installation) == 8
    assert not (installation.home / "query-log" / "records").exists()
