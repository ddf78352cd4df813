"""What uv 0.13 says, and what becomes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.adapters.local.requirements import RequirementsFiles
from headway.adapters.local.uv_errors import explain
from headway.domain.errors import EnvironmentFailed

BUNDLE = Path("/home/bundles/0")
SERVER = frozenset({"msgspec", "uvloop", "httptools"})
NO_SOLUTION = "error: No solution found when resolving dependencies\n  cause: Because "
UNSATISFIABLE = ", we can conclude that your requirements are unsatisfiable.\n"


def explained(output: str, text: str = "six\n", path: str = "requirements.txt") -> EnvironmentFailed:
    return explain(output, RequirementsFiles(((path, text),), ()), BUNDLE, SERVER)


CASES = {
    "an unknown package": (
        NO_SOLUTION + "nope was not found in the package registry and you require nope==1.0" + UNSATISFIABLE,
        "six\nnope==1.0\n",
        ("nope was not found in the package registry", "requirements.txt:2", "spelled"),
    ),
    "an unknown dependency of something": (
        NO_SOLUTION
        + "nope was not found in the package registry and a==1 depends on nope, we can conclude that a==1 cannot "
        + "be used.\n         And because you require a"
        + UNSATISFIABLE,
        "a\n",
        ("nope was not found in the package registry", None, "spelled"),
    ),
    "an unknown version": (
        NO_SOLUTION + "there is no version of six==99.0 and you require six==99.0" + UNSATISFIABLE,
        "\nsix==99.0\n",
        ("there is no version six==99.0 to be had", "requirements.txt:2", "another version"),
    ),
    "an unknown range": (
        NO_SOLUTION + "only six<=1.17.0 is available and you require six>99" + UNSATISFIABLE,
        "six>99",
        ("there is no version six>99 to be had", "requirements.txt:1", "another version"),
    ),
    "two that do not agree": (
        NO_SOLUTION + "you require six==1.16 and six==1.17" + UNSATISFIABLE,
        "six==1.16\nsix==1.17",
        ("no versions can be found that satisfy six==1.16 and six==1.17", "requirements.txt:1", "loosen"),
    ),
    "a long story": (
        NO_SOLUTION
        + "scipy>=1.5.0,<=1.5.4 depends on numpy>=1.14.5 and scipy>=1.6.0 depends on numpy>=1.16.5, we can conclude "
        + "that scipy>=1.5.0 depends on numpy>=1.14.5.\n         And because you require scipy>=1.5 and numpy<1"
        + UNSATISFIABLE,
        "scipy>=1.5\nnumpy<1",
        ("no versions can be found that satisfy scipy>=1.5 and numpy<1", "requirements.txt:1", "loosen"),
    ),
    "not with what the model server needs": (
        NO_SOLUTION + "you require msgspec==0.18.0 and msgspec==0.22.0" + UNSATISFIABLE,
        "six\nmsgspec==0.18.0",
        (
            "no versions can be found that satisfy msgspec==0.18.0 and msgspec==0.22.0",
            "requirements.txt:2",
            "model server needs msgspec",
        ),
    ),
    "no wheel": (
        NO_SOLUTION
        + "tensorflow==1.0.0 has no wheels with a matching Python ABI tag (e.g., `cp311`) and you require "
        + "tensorflow==1.0"
        + UNSATISFIABLE
        + "\nhint: You require CPython 3.11 (`cp311`), but we only found wheels for `tensorflow` (v1.0.0)\n",
        "tensorflow==1.0",
        ("tensorflow==1.0.0 has no wheel for this Python", "requirements.txt:1", "You require CPython 3.11"),
    ),
    "a syntax error": (
        (
            "error: Couldn't parse requirement in `/home/bundles/0/requirements.txt` at position 8\n"
            "  cause: Unexpected end of version specifier, expected version\n         iniconfig ==\n"
        ),
        "é é\n\n\niniconfig ==\n",
        ("Unexpected end of version specifier, expected version: 'iniconfig =='", "requirements.txt:4", "one require"),
    ),
    "a syntax error with a password in it": (
        "error: Couldn't parse requirement in `../0/requirements.txt` at position 0\n  cause: odd\n",
        "x @@ https://me:hunter2@x.example\n",
        ("odd: 'x @@ https://****@x.example'", "requirements.txt:1", "one require"),
    ),
    "an invalid address": (
        "error: Invalid URL in `requirements.txt` at position 4: ./x\n  cause: relative URL without a base\n",
        "six\n--index-url ${X}\n",
        ("./x: '--index-url ${X}'", "requirements.txt:2", "one require"),
    ),
    "a network that is down": (
        (
            "error: Request failed after 3 retries in 5.4s\n  cause: Failed to fetch: https://x.example/simple/six/\n"
            "  cause: error sending request for url (https://x.example/simple/six/)\n  cause: dns error\n"
        ),
        "six",
        ("https://x.example/simple/six/ cannot be reached", None, "network"),
    ),
    "an index that wants a password": (
        (
            "error: Failed to fetch: `https://x.example/simple/six/`\n"
            "  cause: HTTP status client error (401 Unauthorized) for url (https://x.example/simple/six/)\n"
        ),
        "six",
        ("https://x.example/simple/six/ answered 401 Unauthorized", None, "credentials"),
    ),
    "a wrong hash": (
        "error: Failed to download `six==1.17.0`\n  cause: Hash mismatch for `six==1.17.0`\n",
        "six==1.17.0 --hash=sha256:00",
        ("the file of six==1.17.0 does not have the hash that is asked for", "requirements.txt:1", "again"),
    ),
    "a build that fails": (
        (
            "   Building pycrypto==2.6.1\nerror: Failed to build `pycrypto==2.6.1`\n  cause: The backend returned an "
            "error\n\n         [stdout]\n         error: Command gcc failed\n"
        ),
        "six\nPyCrypto==2.6.1",
        ("pycrypto==2.6.1 has no wheel for this Python and could not be built", "requirements.txt:2", "wheel"),
    ),
    "words never seen before": (
        "note: x\nerror: The moon is in the wrong phase\n  cause: It is\n  cause: It really is\n",
        "six",
        ("The moon is in the wrong phase: It really is", None, None),
    ),
    "no words at all": ("", "six", ("uv failed", None, None)),
}


@pytest.mark.parametrize("name", CASES)
def test_one_clear_line_with_the_place_and_a_hint(name: str) -> None:
    output, text, (message, where, hint) = CASES[name]
    found = explained(output, text)
    assert (found.message, found.where) == (message, where)
    assert (hint or "") in (found.hint or "")
    assert bool(hint) == bool(found.hint)
    assert found.details == {"output": output}


def test_the_place_may_be_in_an_included_file() -> None:
    output = (
        "error: Error parsing included file in `/home/bundles/0/requirements.txt` at position 0\n"
        "  cause: Couldn't parse requirement in `/home/bundles/0/more/base.txt` at position 4\n  cause: odd\n"
    )
    files = RequirementsFiles((("requirements.txt", "-r more/base.txt"), ("more/base.txt", "six\n\nx y\n")), ())
    found = explain(output, files, BUNDLE, SERVER)
    assert (found.where, found.message) == ("more/base.txt:3", "odd: 'x y'")


def test_long_words_cost_no_time_and_details_are_bounded() -> None:
    output = "x" * 200_000  # with an expression that is quadratic in it: half an hour
    found = explained(output)
    assert len(found.message) <= 500
    assert len(found.details["output"]) <= 8_000
