"""The configuration and the maps that follow from a table."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from headway.adapters.haproxy.config import (
    SPARES,
    Listen,
    hard_stop_s,
    render,
    render_cold,
    render_config,
    server_options,
    structure,
)
from headway.adapters.haproxy.log_lines import LOG_FDS
from headway.adapters.haproxy.maps import backend_name, map_text, render_maps, replica_of, server_name
from headway.adapters.haproxy.rules import error_pages
from headway.domain.errors import GatewayFailed, tree
from headway.domain.routing_table import (
    Arm,
    Endpoint,
    GatewayToken,
    ModelRoute,
    RoutingTable,
    Shadow,
    Sticky,
    VersionRoute,
)

LISTEN = Listen("127.0.0.1", 8420, Path("/h/run/gateway.sock"), Path("/h/run/stats.sock"))
A, B = Endpoint("iris-v1-aaaaa", "unix:/h/run/a.sock"), Endpoint("iris-v2-bbbbb", "127.0.0.1:9000")
IRIS = ModelRoute(
    "iris",
    (Arm("v1", 75), Arm("v2", 25)),
    (VersionRoute("v1", (A,), 8, 1.5, 1000), VersionRoute("v2", (B,), 8, 1.5, 1000), VersionRoute("v3", ())),
)
TABLE = RoutingTable((IRIS,))


def section(config: str, head: str) -> list[str]:
    found = re.search(rf"^{re.escape(head)}\n((?:    .*\n)*)", config, re.MULTILINE)
    assert found, f"no section {head} in\n{config}"
    return [line.strip() for line in found[1].splitlines()]


def test_a_backend_has_its_servers_limits_and_checks() -> None:
    lines = section(render_config(TABLE, LISTEN), "backend iris.v1.1500ms.8.1000")
    assert "balance leastconn" in lines
    assert "timeout server 3500ms" in lines, "the model server's own 504 comes first"
    assert "timeout queue 1500ms" in lines
    holder, server = [line for line in lines if line.startswith("server ")]
    assert holder == "server waiting 'unix@/h/run/gateway-wait.sock' backup maxconn 1 pool-max-conn 0"
    assert server == f"server {server_name(A)} 'unix@/h/run/a.sock' {server_options(IRIS.versions[0], retries=True)}"
    refusals = [n for n, line in enumerate(lines) if line.startswith("http-request return")]
    assert max(refusals) < next(n for n, line in enumerate(lines) if "wait-for-body" in line)


def test_workers_behind_one_address_are_tried_more_often() -> None:
    shared = replace(IRIS.versions[0], workers=2)
    table = replace(TABLE, models=(replace(IRIS, versions=(shared, *IRIS.versions[1:])),))
    assert "retries 6" in section(render_config(table, LISTEN), "backend iris.v1.1500ms.8.1000.shared")
    assert "retries 6" not in section(render_config(TABLE, LISTEN), "backend iris.v1.1500ms.8.1000")


def test_a_tcp_replica_goes_by_host_and_port() -> None:
    assert f"server {server_name(B)} '127.0.0.1:9000' maxconn 8 check" in render_config(TABLE, LISTEN)


def test_retries_can_be_switched_off_for_experiments() -> None:
    on, off = (section(render_config(TABLE, replace(LISTEN, retries=r)), "defaults") for r in (True, False))
    assert {"retries 3", "option redispatch 1", "retry-on conn-failure empty-response junk-response"} <= set(on)
    assert "retries 0" in off
    assert not any(line.startswith(("option redispatch", "retry-on")) for line in off)
    assert "on-error" not in render_config(TABLE, replace(LISTEN, retries=False))


def test_old_workers_may_outlast_the_longest_request() -> None:
    slow = replace(IRIS, versions=(VersionRoute("v1", (A,), timeout_s=600.0),))
    lines = section(render_config(RoutingTable((slow,)), LISTEN), "global")
    assert f"hard-stop-after {hard_stop_s(600, 5)}s" in lines
    assert hard_stop_s(600, 5) > 2 * 600 + 5


@pytest.mark.parametrize(
    ("host", "bind"), [("127.0.0.1", "127.0.0.1:8420"), ("::1", "[::1]:8420"), ("0.0.0.0", "0.0.0.0:8420")]
)
def test_listeners(host: str, bind: str) -> None:
    lines = section(render_config(TABLE, replace(LISTEN, host=host)), "frontend gateway")
    assert f"bind {bind} name data" in lines
    assert "bind 'unix@/h/run/gateway.sock' name internal mode 600" in lines


def test_the_next_versions_need_no_reload() -> None:
    loaded = structure(TABLE, with_spares=True)
    more = tuple(replace(IRIS.versions[2], version=f"v{n}", endpoints=(A,)) for n in range(4, 4 + SPARES))
    assert loaded.holds(structure(RoutingTable((replace(IRIS, versions=(*IRIS.versions, *more)),))))
    for other in (
        replace(IRIS, versions=(*IRIS.versions, replace(more[0], version=f"v{4 + SPARES}"))),
        replace(IRIS, versions=(replace(IRIS.versions[0], timeout_s=9.0),)),
        replace(IRIS, model="wine"),
        replace(IRIS, sticky=Sticky("header", "x-user")),
    ):
        assert not loaded.holds(structure(RoutingTable((other,))))
    config = render_config(TABLE, LISTEN)
    assert all(f"\nbackend {name}\n" in config for name in loaded.backends)


def test_maps_hold_the_split_and_the_routes() -> None:
    maps = render_maps(TABLE)
    assert maps["split"]["iris"] == "v1"
    assert [maps["split"][f"iris/{n}"] for n in (0, 74, 75, 99)] == ["v1", "v1", "v2", "v2"]
    assert len(maps["split"]) == 101
    assert maps["routes"] == {
        "iris/v1": backend_name("iris", IRIS.versions[0]),
        "iris/v2": backend_name("iris", IRIS.versions[1]),
        "iris/v3": "none",
    }
    whole = render_maps(RoutingTable((replace(IRIS, arms=(Arm("v1", 0), Arm("v2", 100))),)))
    assert whole["split"] == {"iris": "v2"}, "one arm needs no buckets"
    assert render_maps(RoutingTable((ModelRoute("iris", (), ()),)))["split"] == {"iris": "none"}


def test_maps_hold_sticky_shadow_and_tokens() -> None:
    tokens = (GatewayToken("app", "a" * 64, None, None), GatewayToken("one", "b" * 64, ("iris", "wine"), 77))
    iris = replace(IRIS, sticky=Sticky("header", "X-User"), shadow=Shadow("v3", 10))
    maps = render_maps(RoutingTable((iris, replace(IRIS, model="w", shadow=Shadow("v3", 0))), tokens, True))
    assert maps["sticky"] == {"iris": "header:x-user"}
    assert maps["shadow"] == {"iris": "v3:10"}
    assert maps["tokens"]["a" * 64] == "253402300799:all:app"
    assert maps["tokens"]["b" * 64] == "77:some:one"
    assert {key for key in maps["tokens"] if "/" in key} == {"b" * 64 + "/iris", "b" * 64 + "/wine"}
    assert maps["state"] == {"require_token": "1"}


def test_everything_that_matters_changes_the_fingerprint() -> None:
    token = GatewayToken("app", "a" * 64, None, None)
    changed = [
        render(table, listen).fingerprint
        for table, listen in [
            (TABLE, LISTEN),
            (RoutingTable(), LISTEN),
            (replace(TABLE, tokens=(token,)), LISTEN),
            (replace(TABLE, require_token=True), LISTEN),
            (RoutingTable((replace(IRIS, arms=(Arm("v1", 74), Arm("v2", 26))),)), LISTEN),
            (TABLE, replace(LISTEN, port=8421)),
            (TABLE, replace(LISTEN, keep_alive_s=6.0)),
        ]
    ]
    assert len(set(changed)) == len(changed)
    again = render(TABLE, LISTEN)
    assert again.fingerprint == changed[0]
    assert again.maps["state"]["table"] == changed[0]
    assert f"table {changed[0]}\n" in again.files()["state.map"]
    assert "table" not in render_cold(LISTEN).maps["state"]


def test_a_cold_gateway_has_the_files_that_its_configuration_names() -> None:
    files = render_cold(LISTEN).files()
    named = set(re.findall(r"map_str\((\w+\.map)\)|(\d+\.http)", files["haproxy.cfg"]))
    named |= set(re.findall(r"lua-load (\w+\.lua)()", files["haproxy.cfg"]))
    named |= set(re.findall(r"Map\.new\(\"(\w+\.map)\"()", files["hold.lua"]))
    assert {name for pair in named for name in pair if name} | {"haproxy.cfg"} == set(files)


def test_server_names_differ_by_address_and_lead_back_to_the_replica() -> None:
    moved = replace(A, address="unix:/elsewhere")
    assert server_name(A) != server_name(moved)
    assert replica_of(server_name(A)) == replica_of(server_name(moved)) == A.replica_id


@pytest.mark.parametrize(
    "bad",
    [
        replace(IRIS, model="iris\nglobal"),
        replace(IRIS, model="a b"),
        replace(IRIS, arms=(Arm("v1 ", 100),)),
        replace(IRIS, versions=(VersionRoute("x", ()),)),
        replace(IRIS, versions=(VersionRoute("v1", (Endpoint("a b", "unix:/a"),)),)),
        replace(IRIS, versions=(VersionRoute("v1", (Endpoint("a", "unix:/a\n"),)),)),
        replace(IRIS, versions=(VersionRoute("v1", (Endpoint("a", "unix:/'a"),)),)),
        replace(IRIS, sticky=Sticky("header", "a b")),
        replace(IRIS, sticky=Sticky("header", "")),
        replace(IRIS, sticky=Sticky("query", "a")),
        replace(IRIS, shadow=Shadow("v1:100\n", 1)),
    ],
)
def test_what_could_break_out_of_its_line_is_refused(bad: ModelRoute) -> None:
    with pytest.raises(GatewayFailed):
        render(RoutingTable((bad,)), LISTEN)


@pytest.mark.parametrize("bad", [GatewayToken("a b", "a" * 64, None, 1), GatewayToken("a", "A" * 64, None, 1)])
def test_a_token_that_could_break_out_of_its_map_is_refused(bad: GatewayToken) -> None:
    with pytest.raises(GatewayFailed):
        render(RoutingTable((), (bad,)), LISTEN)


def test_error_pages_are_whole_answers_in_the_trees_form() -> None:
    known = {(error.code, error.status) for error in tree()}
    for page in error_pages().values():
        head, _, body = page.partition("\r\n\r\n")
        status = int(head.split(" ")[1])
        assert (json.loads(body)["error"]["code"], status) in known
        assert f"Content-Length: {len(body)}" in head
        assert ("Retry-After" in head) is (status == 503)


def test_refusals_in_the_rules_are_json_in_the_trees_form() -> None:
    known = {(error.code, error.status) for error in tree()}
    found = re.findall(r"return status (\d+) content-type application/json (?:lf-)?string '([^']*)'", _all_rules())
    assert len(found) > 12
    for status, body in found:
        told = json.loads(body)
        assert told == {"status": "ok"} or (told["error"]["code"], int(status)) in known


def test_only_the_frontend_logs_and_all_fields_in_their_order() -> None:
    config = render_config(TABLE, LISTEN)
    frontend = section(config, "frontend gateway")
    logs = [line.strip() for line in config.splitlines() if line.strip().startswith("log ")]
    assert logs == [line for line in frontend if line.startswith("log ")]
    assert [log.split(" ")[1] for log in logs] == [f"fd@{fd}" for fd in LOG_FDS]
    for head in ("log-format", "error-log-format"):
        [line] = [line for line in frontend if line.startswith(f"{head} ")]
        assert line.startswith(f"{head} '[%pid,%[sc_inc_gpc0(0)],")
        assert "'" not in line.removeprefix(f"{head} '")[:-1], "an apostrophe would end the line"


def test_a_request_is_noted_before_anything_is_refused() -> None:
    rules = [line for line in section(render_config(TABLE, LISTEN), "frontend gateway") if "http-request" in line]
    refusal = next(n for n, line in enumerate(rules) if line.startswith("http-request return"))
    assert {"http-request set-log-level err", "http-request set-log-level silent unless below_models"} < set(
        rules[:refusal]
    )


def _all_rules() -> str:
    return render_config(TABLE, LISTEN)


def test_map_text_is_a_line_each() -> None:
    assert map_text({"a": "b", "c/1": "d"}) == "a b\nc/1 d\n"


def test_the_job_server_has_a_backend_of_its_own() -> None:
    table = replace(TABLE, jobs="unix:/h/run/jobs.sock")
    lines = section(render_config(table, LISTEN), "backend jobs")
    assert any(line.startswith("server jobs 'unix@/h/run/jobs.sock' check ") for line in lines)
    assert "server again 'unix@/h/run/gateway-jobs.sock' backup" in lines
    bare = section(render_config(table, replace(LISTEN, retries=False)), "backend jobs")
    assert [line for line in bare if line.startswith("server ")] == ["server jobs 'unix@/h/run/jobs.sock'"]
    assert render_maps(table)["state"]["jobs"] == "1"
    assert "jobs" not in render_maps(TABLE)["state"]
    assert not structure(TABLE, with_spares=True).holds(structure(table))
    with pytest.raises(GatewayFailed):
        render(replace(TABLE, jobs="unix:/h/'/jobs.sock"), LISTEN)


def test_old_workers_may_outlast_a_call_that_waits_for_a_job() -> None:
    lines = section(render_config(replace(TABLE, jobs="unix:/h/run/jobs.sock"), LISTEN), "global")
    (limit,) = [int(line.split()[1].removesuffix("s")) for line in lines if line.startswith("hard-stop-after")]
    assert limit > 75
