"""Every dependency has its reason in decision 2, and the decision names no other."""

from __future__ import annotations

import re
import tomllib

from scripts.check_docs import ROOT

DECISION = ROOT / "docs" / "decisions" / "0002-dependencies.md"
NAME = re.compile(r"[A-Za-z0-9._-]+")


def declared(requirements: list[str]) -> set[str]:
    return {found[0] for requirement in requirements if (found := NAME.match(requirement))}


def explained(heading: str) -> set[str]:
    section = DECISION.read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return set(re.findall(r"^\| `([A-Za-z0-9._-]+)(?:\[[^`]*)?` \| \S", section, re.MULTILINE))


def rows(heading: str) -> set[tuple[str, str]]:
    section = DECISION.read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return set(re.findall(r"^\| `([a-z0-9-]+)` \| `([A-Za-z0-9._-]+)` \| \S", section, re.MULTILINE))


def test_every_dependency_is_explained_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert explained("At run time") == declared(project["project"]["dependencies"])
    extras = project["project"]["optional-dependencies"]
    assert rows("Extras") == {(extra, name) for extra, wanted in extras.items() for name in declared(wanted)}
    assert explained("For development") == declared(project["dependency-groups"]["dev"])


def test_the_lock_holds_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = declared(project["project"]["dependencies"] + project["dependency-groups"]["dev"])
    locked = set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE))
    assert wanted <= locked


def test_examples_pin_what_the_lock_holds() -> None:
    """A demo then installs from the cache, and a model is served by the versions that trained it."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = set(re.findall(r"^([a-z0-9._-]+==[^ ;\\]+)", lock, re.MULTILINE))
    files = list((ROOT / "examples").glob("*/requirements.txt"))
    assert files
    for file in files:
        pins = {line.split(";")[0].strip() for line in file.read_text().splitlines() if line and line[0] != "#"}
        assert pins <= locked, f"{file.parent.name}: {pins - locked}"
