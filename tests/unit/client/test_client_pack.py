"""What of a folder becomes a bundle, and the archive that carries it."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from pathlib import Path

import pytest

from headway.adapters.local.unpack import unpack
from headway.client import pack
from headway.client.pack import Bundle, readable_size, scan
from headway.domain.errors import InvalidBundle
from tests.unit.client.control import model_folder


def paths(bundle: Bundle) -> list[str]:
    return [entry.file.path for entry in bundle.files]


def archive(bundle: Bundle) -> bytes:
    target = io.BytesIO()
    bundle.write(target)
    return target.getvalue()


def add(folder: Path, *names: str, content: str = "x") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return model_folder(tmp_path)


def test_the_same_files_are_the_same_archive_whenever_and_wherever(tmp_path: Path) -> None:
    made = []
    for position, place in enumerate(("here", "there")):
        (tmp_path / place).mkdir()
        folder = model_folder(tmp_path / place)
        names = ["b/two.txt", "b.txt", "a.txt", "ü.txt"]
        add(folder, *(names if position else reversed(names)))
        os.utime(folder / "a.txt", (position * 1e6, position * 1e6))
        (folder / "a.txt").chmod(0o600 if position else 0o644)
        made.append(scan(folder))

    assert made[0].digest == made[1].digest
    assert archive(made[0]) == archive(made[1])
    assert paths(made[0]) == ["a.txt", "b.txt", "b/two.txt", "model.py", "ü.txt"]


def test_the_digest_is_the_one_that_the_store_finds(folder: Path, tmp_path: Path) -> None:
    add(folder, "deep/" * 5 + "n" * 120 + "/" + "f" * 120, "run.sh", "ü" * 60)
    (folder / "run.sh").chmod(0o755)
    (folder / "empty").touch()
    bundle = scan(folder)
    target = tmp_path / "unpacked"
    target.mkdir()

    assert unpack(io.BytesIO(archive(bundle)), target, 10_000, threading.Event()) == bundle.digest
    assert os.access(target / "run.sh", os.X_OK)
    assert bundle.size == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("change", ["content", "name", "executable"])
def test_another_content_name_or_mode_is_another_bundle(folder: Path, change: str) -> None:
    add(folder, "a.txt")
    before = scan(folder).digest
    if change == "content":
        add(folder, "a.txt", content="y")
    elif change == "name":
        (folder / "a.txt").rename(folder / "b.txt")
    else:
        (folder / "a.txt").chmod(0o755)

    assert scan(folder).digest != before


def test_caches_environments_and_secrets_are_never_packed(folder: Path) -> None:
    add(folder, ".git/config", "__pycache__/model.pyc", "a/b.pyc", ".venv/x", "sub/venv/x", "node_modules/x")
    add(folder, ".ipynb_checkpoints/x", ".DS_Store", ".env", ".env.production", "sub/.env", "environment.txt")
    add(folder, pack.IGNORE_FILE, content="!.env\n!.git\n")

    assert paths(scan(folder)) == ["environment.txt", "model.py"]


def test_what_headwayignore_names_is_left_out_as_git_would(folder: Path) -> None:
    add(folder, "data/raw.csv", "data/small.csv", "notes.txt", "sub/notes.txt", "top.csv", "build/x", "sub/build")
    add(folder, pack.IGNORE_FILE, content="# what is not needed\n\n/data/*\n!/data/small.csv\nnotes.txt\nbuild/\n")

    assert paths(scan(folder)) == ["data/small.csv", "model.py", "sub/build", "top.csv"]


def test_a_headwayignore_that_cannot_be_used_is_told(folder: Path) -> None:
    (folder / pack.IGNORE_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidBundle, match="headwayignore"):
        scan(folder)


def test_the_deployment_document_is_no_part_of_the_bundle(folder: Path) -> None:
    before = scan(folder).digest
    add(folder, "headway.yaml", "headway.yml", "production.yaml", ".headwayignore")

    assert scan(folder, document=folder / "production.yaml").digest == before
    assert scan(folder).digest != before


def test_links_within_the_folder_are_followed(folder: Path) -> None:
    add(folder, "shared/weights.bin")
    (folder / "weights.bin").symlink_to("shared/weights.bin")
    (folder / "again").symlink_to("shared", target_is_directory=True)

    assert paths(scan(folder)) == ["again/weights.bin", "model.py", "shared/weights.bin", "weights.bin"]


def test_a_folder_that_is_a_link_itself_is_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert scan(tmp_path / "link").digest == scan(folder).digest


@pytest.mark.parametrize("directory", [False, True])
def test_a_link_that_leads_out_of_the_folder_is_refused(folder: Path, tmp_path: Path, directory: bool) -> None:
    add(tmp_path, "outside/secret.txt")
    (folder / "link").symlink_to(tmp_path / "outside" if directory else tmp_path / "outside/secret.txt")
    with pytest.raises(InvalidBundle, match="outside the folder"):
        scan(folder)
    add(folder, pack.IGNORE_FILE, content="link\n")
    assert paths(scan(folder)) == ["model.py"]


def test_a_link_to_what_is_never_packed_is_left_out_too(folder: Path) -> None:
    add(folder, ".env", ".git/config")
    (folder / "settings").symlink_to(".env")
    (folder / "history").symlink_to(".git", target_is_directory=True)
    (folder / "config").symlink_to(".git/config")

    assert paths(scan(folder)) == ["model.py"]


def test_a_link_in_a_circle_or_to_nowhere_is_refused(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub/up").symlink_to("..", target_is_directory=True)
    with pytest.raises(InvalidBundle, match="a folder that it lies in"):
        scan(folder)
    (folder / "sub/up").unlink()
    (folder / "gone").symlink_to("nowhere")
    with pytest.raises(InvalidBundle, match="leads nowhere"):
        scan(folder)
    (folder / "gone").unlink()
    (folder / "self").symlink_to("self")
    with pytest.raises(InvalidBundle, match="'self'"):
        scan(folder)


def test_a_named_pipe_is_refused_and_does_not_hang(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(InvalidBundle, match="neither a file nor a folder"):
        scan(folder)
    add(folder, pack.IGNORE_FILE, content="pipe\n")
    assert paths(scan(folder)) == ["model.py"]


def test_names_that_no_bundle_can_hold_are_refused(folder: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9")).touch()
    with pytest.raises(InvalidBundle, match="not UTF-8"):
        scan(folder)
    (folder / os.fsdecode(b"caf\xe9")).unlink()
    (folder / "a\\b").touch()
    with pytest.raises(InvalidBundle, match="unsafe path"):
        scan(folder)


def test_a_folder_that_is_missing_empty_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidBundle, match="there is no folder") as raised:
        scan(tmp_path / "gone")
    assert "headway init" in (raised.value.hint or "")
    (tmp_path / "empty/__pycache__").mkdir(parents=True)
    with pytest.raises(InvalidBundle, match="holds no file"):
        scan(tmp_path / "empty")
    add(tmp_path, "file")
    with pytest.raises(InvalidBundle, match="is not a folder"):
        scan(tmp_path / "file")


def test_too_many_files_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "MAX_FILES", 3)
    add(folder, "a", "b")
    scan(folder)
    add(folder, "c")
    with pytest.raises(InvalidBundle, match="more than 3 files"):
        scan(folder)


@pytest.mark.parametrize("content", ["other", "longer than before", "", None])
def test_a_file_that_changes_between_reading_and_packing_is_noticed(folder: Path, content: str | None) -> None:
    add(folder, "data.txt", content="first")
    bundle = scan(folder)
    if content is None:
        (folder / "data.txt").unlink()
    else:
        add(folder, "data.txt", content=content)
    with pytest.raises(InvalidBundle, match=r"data\.txt"):
        archive(bundle)


def test_the_archive_holds_no_owner_time_or_other_mode(folder: Path) -> None:
    add(folder, "run.sh")
    (folder / "run.sh").chmod(0o700)
    with tarfile.open(fileobj=io.BytesIO(archive(scan(folder)))) as tar:
        assert [(m.name, m.mode, m.uid, m.gid, m.uname, m.mtime) for m in tar] == [
            ("model.py", 0o644, 0, 0, "", 0),
            ("run.sh", 0o755, 0, 0, "", 0),
        ]


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB")])
def test_sizes_are_readable(size: int, text: str) -> None:
    assert readable_size(size) == text
