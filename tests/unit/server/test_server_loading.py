"""From a bundle to a model: what is found, what is refused, and how a failure names its place."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

from headway.domain.errors import HeadwayError, LoadFailed, OutOfMemory
from headway.server.loading import load_model
from headway.server.model import InputKind, LoadedModel
from headway.server.startup import collecting_rarely, freeze


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty bundle on ``sys.path``; modules imported from it are forgotten afterwards."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def load(bundle: Path, source: str, entrypoint: str | None = None, file: str = "model.py") -> LoadedModel:
    (bundle / file).write_text(source)
    return load_model(bundle, entrypoint, stage=lambda stage: None)


def failure(bundle: Path, source: str, entrypoint: str | None = None) -> HeadwayError:
    with pytest.raises(HeadwayError) as caught:
        load(bundle, source, entrypoint)
    return caught.value


CLASS = "class Iris:\n    def predict(self, X):\n        return [1] * len(X)\n"
LOAD = CLASS + "    def load(self):\n        "
INIT = CLASS + "    def __init__(self):\n        "
ABSTRACT = """
import abc
class Model(abc.ABC):
    @abc.abstractmethod
    def predict(self, X): ...
class A(Model):
    def predict(self, X):
        return [1] * len(X)
"""


@pytest.mark.parametrize(
    ("source", "entrypoint", "name"),
    [
        (CLASS, None, "Iris"),
        (CLASS, "model:Iris", "Iris"),
        ("def predict(X):\n    return [1] * len(X)\n", None, "predict"),
        ("def score(X):\n    return [1] * len(X)\ndef other(X): ...\n", "model:score", "score"),
        (CLASS + "model = Iris()\n", None, "model"),
        (CLASS + "class Other:\n    x = Iris()\n", "model:Other.x", "Other.x"),
        (CLASS + "class Finer(Iris): ...\n", None, "Finer"),
        ("import json\n" + CLASS, None, "Iris"),
        (ABSTRACT, None, "A"),
    ],
)
def test_the_model_is_found(bundle: Path, source: str, entrypoint: str | None, name: str) -> None:
    model = load(bundle, source, entrypoint)
    assert model.name == name
    assert model.predict([[0]], None) == [1]


def test_load_is_called_once_before_the_model_is_handed_out(bundle: Path) -> None:
    model = load(bundle, "class M:\n  n = 0\n  def load(self): self.n += 1\n  def predict(self, X): return self.n\n")
    assert model.predict([[0]], None) == 1


def test_the_entrypoint_may_lie_in_a_package(bundle: Path) -> None:
    (bundle / "pkg").mkdir()
    (bundle / "pkg" / "__init__.py").write_text("")
    assert load(bundle, CLASS, "pkg.iris:Iris", file="pkg/iris.py").name == "Iris"


@pytest.mark.parametrize(
    ("source", "entrypoint", "message", "where", "hint"),
    [
        ("x = 1\n", None, "defines no model", "model.py", "class with predict"),
        (CLASS + CLASS.replace("Iris", "Two"), None, "more than one model: Iris, Two", "model.py", "model:Iris"),
        (CLASS + "def predict(X): ...\n", None, "more than one model: Iris, predict", "model.py", "entrypoint"),
        (CLASS, "model:Irys", "model has no 'Irys'", None, "it defines: Iris"),
        (CLASS, "model", "not of the form", None, "model:Iris"),
        (CLASS, "nowhere:Iris", "ModuleNotFoundError", None, "nowhere"),
        ("class Iris\n    pass\n", None, "SyntaxError: expected ':'", "model.py:1", None),
        ("def f(:\n", None, "SyntaxError", "model.py:1", None),
        ("\nimport nonexistent_package_x\n", None, "nonexistent_package_x", "model.py:2", "requirements.txt"),
        ("import sklearn.nothing_like_it\n", None, "sklearn.nothing_like_it", "model.py:1", "scikit-learn"),
        ("\n\n1 / 0\n", None, "ZeroDivisionError: division by zero", "model.py:3", None),
        ("import sys\nsys.exit(3)\n", None, "SystemExit: the code called exit(3)", "model.py:2", "must not exit"),
        (LOAD + "raise ValueError('no weights')\n", None, "ValueError: no weights", "model.py:5", None),
        (LOAD + "exit()\n", None, "SystemExit", "model.py:5", None),
        (LOAD + "raise KeyboardInterrupt\n", None, "KeyboardInterrupt", "model.py:5", None),
        (INIT + "open('/none/such')\n", None, "FileNotFoundError", "model.py:5", None),
        (CLASS + "    def __init__(self, path): ...\n", None, "Iris() needs arguments: path", None, "defaults"),
        ("class Iris: ...\n", "model:Iris", "Iris has no predict", "model.py", None),
        ("iris = 5\n", "model:iris", "iris has no predict", "model.py", None),
        ("class I:\n    async def predict(self, X): ...\n", None, "is async", None, "plain def"),
        ("class I:\n    def predict(self): ...\n", None, "takes no input", None, "features_names=None"),
        ("class I:\n    def predict(self, X, y): ...\n", None, "needs y", None, "defaults"),
        ("def predict(X: str): ...\n", None, "annotated as str", None, "pandas.DataFrame"),
    ],
)  # fmt: skip
def test_what_cannot_be_loaded_is_named(
    bundle: Path, source: str, entrypoint: str | None, message: str, where: str | None, hint: str | None
) -> None:
    error = failure(bundle, source, entrypoint)
    assert isinstance(error, LoadFailed)
    assert message in error.message
    assert error.where == where
    assert hint is None or hint in (error.hint or "")


def test_a_failure_deep_in_a_library_names_the_line_of_the_bundle(bundle: Path) -> None:
    (bundle / "part.py").write_text("import json\n\ndef read():\n    return json.loads('{')\n")
    assert failure(bundle, "import part\npart.read()\n" + CLASS).where == "part.py:4"


def test_a_wrapped_failure_names_its_origin(bundle: Path) -> None:
    source = "try:\n    {}['a']\nexcept KeyError as error:\n    raise RuntimeError('wrapped') from error\n"
    assert failure(bundle, source).where == "model.py:4"


def test_running_out_of_memory_is_called_that(bundle: Path) -> None:
    assert isinstance(failure(bundle, "raise MemoryError\n"), OutOfMemory)


def test_a_missing_model_file_and_a_shadowed_name_are_explained(bundle: Path) -> None:
    with pytest.raises(LoadFailed, match="no model in the bundle"):
        load_model(bundle, None, stage=lambda stage: None)
    with pytest.raises(LoadFailed, match="name of a module that Python itself uses"):
        load(bundle, CLASS, "json:Iris", file="json.py")


def test_stages_are_told(bundle: Path) -> None:
    (bundle / "model.py").write_text(CLASS)
    told: list[str] = []
    load_model(bundle, None, stage=told.append)
    assert told == ["import", "load"]


# -- the contract -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        ("", InputKind.ARRAY),
        (": np.ndarray", InputKind.ARRAY),
        (": 'np.ndarray'", InputKind.ARRAY),
        (": 'OnlyATypeChecker.ndarray'", InputKind.ARRAY),
        (": npt.NDArray[np.float64]", InputKind.ARRAY),
        (": Any", InputKind.ARRAY),
        (": pd.DataFrame", InputKind.FRAME),
        (": 'pd.DataFrame | None'", InputKind.FRAME),
        (": Optional[pd.DataFrame]", InputKind.FRAME),
        (": dict", InputKind.RAW),
        (": Dict[str, Any]", InputKind.RAW),
        (": Mapping[str, Any]", InputKind.RAW),
        (": Body", InputKind.RAW),
        (": list", InputKind.LISTS),
        (": list[list[float]]", InputKind.LISTS),
        (": List", InputKind.LISTS),
        (": Union[np.ndarray, List, str, bytes, Dict]", InputKind.ARRAY),
        (": Annotated[dict, 'x']", InputKind.RAW),
    ],
)
def test_the_annotation_picks_the_type_of_x(bundle: Path, annotation: str, kind: InputKind) -> None:
    source = (
        "from typing import *\nfrom collections.abc import Mapping\n"
        "import numpy as np, numpy.typing as npt, pandas as pd\n"
        f"class Body(TypedDict):\n    a: int\ndef predict(X{annotation}): ...\n"
    )
    assert load(bundle, source).kind is kind


def test_a_missing_pandas_is_named(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    error = failure(bundle, "def predict(X: 'pd.DataFrame'): ...\n")
    assert "asks for pandas" in error.message
    assert "requirements.txt" in str(error.hint)


def test_without_numpy_plain_lists_are_the_default(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.server.model.importlib.util.find_spec", lambda name: None)
    assert load(bundle, "def predict(X): ...\n").kind is InputKind.ROWS


@pytest.mark.parametrize(
    ("parameters", "passed"),
    [
        ("X", None),
        ("X, features_names=None", "features_names"),
        ("X, names=None, meta=None", "names"),
        ("X, *, feature_names", "feature_names"),
        ("X, **kwargs", "features_names"),
        ("*args", None),
        ("X, other=1", None),
    ],
)
def test_column_names_are_passed_only_where_they_are_taken(tmp_path: Path, parameters: str, passed: str | None) -> None:
    scope: dict[str, Any] = {}
    exec(f"def predict({parameters}): return locals()", scope)
    model = LoadedModel(scope["predict"], tmp_path, name="predict")
    got = model.predict("x", ("a", "b"))
    got = got.get("kwargs", got)
    assert {k: v for k, v in got.items() if v == ["a", "b"]} == ({} if passed is None else {passed: ["a", "b"]})


def test_builtin_callables_and_sklearn_like_objects_work(tmp_path: Path) -> None:
    class Estimator:
        feature_names_in_ = np.array(["a", "b"], dtype=object)

        def predict(self, X: Any) -> Any:  # noqa: N803
            return X

    model = LoadedModel(Estimator(), tmp_path, name="m")
    assert model.columns() == ("a", "b")
    assert LoadedModel(len, tmp_path, name="len").predict([1, 2], None) == 2


@pytest.mark.parametrize("fails", [False, True])
def test_the_collector_rests_while_the_model_is_loaded_and_then_works_as_before(bundle: Path, fails: bool) -> None:
    (bundle / "model.py").write_text(
        f"import gc\nseen = gc.get_threshold()[0]\nassert not {fails}\ndef predict(X): return seen\n"
    )
    usual = gc.get_threshold()
    with contextlib.suppress(HeadwayError), collecting_rarely():
        model = load_model(bundle, None, stage=lambda stage: None)
        assert model.predict(None, None) > 10 * usual[0]
    assert gc.get_threshold() == usual


@pytest.mark.parametrize("has_code", [True, False])
def test_what_code_left_behind_is_collected_before_it_is_kept_for_ever(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, has_code: bool
) -> None:
    """A model file by itself leaves nothing, and to look for it takes time."""
    if has_code:
        (bundle / "model.py").write_text("def predict(X):\n    return X\n")
    else:
        joblib.dump(DummyClassifier().fit([[0.0], [1.0]], [0, 1]), bundle / "model.joblib")
    model = load_model(bundle, None, stage=lambda stage: None)
    done: list[str] = []
    monkeypatch.setattr(gc, "collect", lambda: done.append("collected"))
    monkeypatch.setattr(gc, "freeze", lambda: done.append("frozen"))
    freeze(model)
    assert done == (["collected", "frozen"] if has_code else ["frozen"])
