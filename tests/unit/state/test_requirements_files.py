"""What requirements files may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.adapters.local.requirements import (
    LOCK,
    line_of,
    normalized,
    package_count,
    pins,
    read_requirements,
    redacted,
)
from headway.domain.errors import EnvironmentFailed


def files_in(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


ALLOWED = [
    "",
    "# nothing",
    "pandas",
    "scikit-learn>=1.5,<2 ; python_version >= '3.11'  # a comment",
    "pandas[performance, excel] == 2.*",
    "six==1.17.0 --hash=sha256:" + "0" * 64,
    "six==1.17.0 \\\n    --hash=sha256:" + "0" * 64 + " \\\n  --hash=sha256:" + "1" * 64,
    "torch @ https://download.example/torch-2.0-py3-none-any.whl",
    "thing @ git+https://git.example/thing@v1#subdirectory=python",
    "thing[extra]@git+ssh://git@git.example/thing",
    "https://download.example/torch-2.0-py3-none-any.whl",
    "git+https://git.example/thing",
    "thing @ ${REGISTRY}/thing.zip",
    "\ufeffsix",
]


@pytest.mark.parametrize("text", ALLOWED)
def test_packages_by_name_or_address_are_allowed(tmp_path: Path, text: str) -> None:
    found = read_requirements(files_in(tmp_path, {"requirements.txt": text}))
    assert [path for path, _ in found.texts] == ["requirements.txt"]
    assert found.options == ()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("-e .", "-e"),
        ("-e.", "-e"),
        ("--editable ./x", "--editable"),
        ("--editable=./x", "--editable"),
        (".", "local"),
        ("./wheels/x-1.0-py3-none-any.whl", "local"),
        ("../x", "local"),
        ("/opt/x", "local"),
        ("~/x", "local"),
        ("wheels/x-1.0-py3-none-any.whl", "local"),
        ("x-1.0-py3-none-any.whl", "local"),
        ("x-1.0.tar.gz", "local"),
        ("file:///opt/x", "local"),
        ("x @ file:///opt/x", "local"),
        ("x @ ./x", "local"),
        ("x@../x", "local"),
        ("-r ../other.txt", "outside"),
        ("-r a/../../other.txt", "outside"),
        ("-r /etc/passwd", "outside"),
        ("-r https://me:hunter2@x.example/r.txt", "outside"),
        ("-c ../other.txt", "outside"),
        ("-r missing.txt", "cannot be read"),
        ("--index-url ./folder", "http"),
        ("-f wheels", "http"),
        ("--find-links=file:///wheels", "http"),
        ("--pre", "--pre"),
        ("--trusted-host x.example", "--trusted-host"),
        ("--prefer-binary", "--prefer-binary"),
        ("--require-hashes", "--require-hashes"),
        ("--config-settings x=y", "--config-settings"),
        ("- x", "neither"),
        ("--", "neither"),
    ],
)
def test_what_is_refused_is_named_with_its_line(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(EnvironmentFailed, match=complaint) as failure:
        read_requirements(files_in(tmp_path, {"requirements.txt": f"six\n# x\n{line}\n"}))
    if complaint != "cannot be read":
        assert failure.value.hint or complaint == "neither"
    assert failure.value.where == "requirements.txt:3"
    assert "hunter2" not in str(failure.value)


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"six\n\xff\xfe\n", "requirements.txt:2"),
        (b"a\nb\nc\0\n", "requirements.txt:3"),
        (b"#" * 5_000_000, "requirements.txt"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, data: bytes, where: str) -> None:
    with pytest.raises(EnvironmentFailed) as failure:
        read_requirements(files_in(tmp_path, {"requirements.txt": data}))
    assert failure.value.where == where


def test_included_files_are_read_once_each_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    folder = files_in(
        tmp_path,
        {
            "requirements.txt": "-r more/base.txt\n--constraint=more/c.txt\n-rmore/../last.txt",
            "more/base.txt": "-r ../requirements.txt\n-c c.txt\nsix",
            "more/c.txt": "six<2",
            "last.txt": "x",
        },
    )
    found = read_requirements(folder)
    assert [path for path, _ in found.texts] == ["requirements.txt", "more/base.txt", "more/c.txt", "last.txt"]
    assert "six<2" in found.canonical


def test_endless_inclusion_ends(tmp_path: Path) -> None:
    chain: dict[str, str | bytes] = {f"r{n}.txt": f"-r r{n + 1}.txt" for n in range(60)}
    with pytest.raises(EnvironmentFailed, match="more than 50"):
        read_requirements(files_in(tmp_path, {**chain, "requirements.txt": "-r r0.txt"}))


def test_options_for_the_installation_are_kept_in_order_and_once(tmp_path: Path) -> None:
    text = "-i https://a.example\n--extra-index-url=https://b.example\n-r x.txt\n--no-binary :all:\n--no-index\n"
    found = read_requirements(files_in(tmp_path, {"requirements.txt": text, "x.txt": "-i https://a.example\n"}))
    assert found.options == (
        "-i https://a.example",
        "--extra-index-url https://b.example",
        "--no-binary :all:",
        "--no-index",
    )


def test_equal_texts_in_other_files_are_other_requirements(tmp_path: Path) -> None:
    one = read_requirements(files_in(tmp_path / "1", {"requirements.txt": "-r a.txt", "a.txt": "six"}))
    two = read_requirements(files_in(tmp_path / "2", {"requirements.txt": "-r a.txt", "a.txt": "six<2"}))
    assert one.canonical != two.canonical


def test_a_lock_includes_nothing(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match="-r is not supported"):
        read_requirements(files_in(tmp_path, {LOCK: "-r x.txt", "x.txt": ""}), LOCK)


def test_pins_count_and_lines_of_a_lock() -> None:
    lock = "# x\n-i https://x.example\nsix==1.17.0 \\\n    --hash=sha256:0\nScikit_Learn == 1.5 ; x\nurl @ https://x\n"
    assert pins(lock) == {"six": ("1.17.0", "requirements.lock:3"), "scikit-learn": ("1.5", "requirements.lock:5")}
    assert package_count(lock) == 3


def test_where_a_package_is_asked_for(tmp_path: Path) -> None:
    folder = files_in(tmp_path, {"requirements.txt": "six\n-r more.txt", "more.txt": "\n\nScikit.Learn[x]>1\n"})
    found = read_requirements(folder)
    assert line_of(found, "scikit-learn") == "more.txt:3"
    assert line_of(found, "six") == "requirements.txt:1"
    assert line_of(found, "scikit") is None


def test_names_are_compared_as_pep_503_says() -> None:
    assert normalized("Foo.-_Bar") == "foo-bar"


def test_credentials_are_taken_out_of_addresses_only() -> None:
    text = "see https://me:hunter2@x.example/a and git+ssh://git@y.example, mail me@x.example"
    assert redacted(text) == "see https://****@x.example/a and git+ssh://****@y.example, mail me@x.example"
