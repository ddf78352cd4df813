"""Arrivals of a CSV: as ``headway log -o csv`` writes it, and as anybody else may."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from headway.cli.load_replay import replayed_file
from headway.domain.errors import InvalidInput
from headway.domain.load_shapes import Arrivals, Loop

TORN = gzip.compress(b"time\n1\n2\n", mtime=0)[:10] + b"\xff" * 20
"""With the head of a packed file, and nothing after it that can be unpacked."""


def _file(folder: Path, text: str, name: str = "requests.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def test_a_query_log_as_csv(tmp_path: Path) -> None:
    text = (
        "version,ts_ns,status,rows,arm\n"
        "v1,1700000000250000000,200,3,split\n"
        "v1,1700000000000000000,503,0,sticky\n"
        "v2,1700000000100000000,200,7,shadow\n"
        "v1,1700000000100000000,200,7,job\n"
        "v1,1700000002000001000,200,1,pinned\n"
    )
    found = replayed_file(_file(tmp_path, text), 1.0, 1)
    assert (found.shape.loop, found.shape.arrivals) == (Loop.OPEN, Arrivals.RECORDED)
    assert found.shape.offsets_s == (0.0, 0.25, 2.000001)
    assert found.sizes == (1, 3, 1)
    assert found.shape.duration_s == pytest.approx(2.001, abs=1e-4)


@pytest.mark.parametrize("name", ["requests.csv", "requests.csv.gz"])
@pytest.mark.parametrize(
    "text",
    [
        "time\n10\n10.5\n12\n",
        "\ufefftime\r\n2026-05-01T12:00:00Z\r\n2026-05-01T14:00:00.5+02:00\r\n\r\n2026-05-01T12:00:02\r\n",
        'what,"time"\n"a, b",10\nc, 10.5\nd,12\n',
    ],
)
def test_times_of_ones_own(tmp_path: Path, text: str, name: str) -> None:
    found = replayed_file(_file(tmp_path, text, name), 2.0, 4)
    assert found.shape.offsets_s == (0.0, 0.25, 1.0)
    assert found.sizes == (4, 4, 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column says when"),
        ("at,rows\n1,2\n", "no column says when"),
        ("time\n", "tells of no request"),
        ("time,arm\n1,shadow\n", "tells of no request"),
        ("time\nsoon\n", "'soon' is not a time"),
        ("time\ninf\n", "'inf' is not a time"),
        ("time\nnan\n", "'nan' is not a time"),
        ("time\n1e300\n", "not a time"),
        ("ts_ns\n" + "9" * 5000 + "\n", "not a time"),
        ("ts_ns\n1.5\n", "not a time"),
        ("time,rows\n1\n", "1 cells under 2 columns"),
        ("time,rows\n1,-1\n", "not a number of rows"),
        ("time,rows\n1,100001\n", "not a number of rows"),
        ("time,rows\n1,\u00b2\n", "not a number of rows"),
        ("time,rows\n1," + "1" * 5000 + "\n", "not a number of rows"),
        ("time,what\n1," + "x" * 200_000 + "\n", "this is not CSV: field larger than"),
        ("x" * 200_000, "this is not CSV: field larger than"),
        ("time\n0\n700000\n", "stage 1 takes"),
        ("\x00", "no column"),
    ],
)
def test_what_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        replayed_file(_file(tmp_path, text), 1.0, 1)
    assert said in caught.value.message


def test_rows_are_said_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="says how many rows"):
        replayed_file(_file(tmp_path, "time,rows\n1,1\n"), 1.0, 5)


@pytest.mark.parametrize("content", [b"time\n\xff\n", b"\x1f\x8b\x00", TORN])
def test_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ("a.csv" if content.startswith(b"time") else "a.csv.gz")
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="cannot read"):
        replayed_file(path, 1.0, 1)
    with pytest.raises(InvalidInput, match="cannot read"):
        replayed_file(tmp_path / "nowhere.csv", 1.0, 1)


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), 1001.0])
def test_a_speed_that_is_none_is_refused(tmp_path: Path, speed: float) -> None:
    with pytest.raises(InvalidInput, match="times as fast"):
        replayed_file(_file(tmp_path, "time\n1\n"), speed, 1)
