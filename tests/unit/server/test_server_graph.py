"""Inference graphs: which node is asked about what, alone and in batches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from headway.domain.errors import LoadFailed
from headway.server.graph_loading import load_graph
from headway.server.graph_spec import GraphNode
from headway.server.model import LoadedModel
from tests.unit.server.bench import Bench

PATH = "/api/v1.0/predictions"

TRANSFORMER = """
class Halves:
    def __init__(self, by=2.0):
        self.by = by
    def load(self):
        self.loaded = True
    def transform_input(self, X, names):
        assert self.loaded
        return X / self.by
    def tags(self):
        return {"halved": True}
    def metrics(self):
        return [{"type": "COUNTER", "key": "halvings", "value": 1}]
"""
ROUTER = """
class ByFirst:
    asked = 0
    learned = []
    def route(self, X, names=None):
        type(self).asked += 1
        return int(X[0, 0])
    def send_feedback(self, features, feature_names, reward, truth, routing=None):
        self.learned.append((features.tolist(), feature_names, reward, truth.tolist(), routing))
"""
MODEL = """
from words import NAME
calls = []
class Named:
    class_names = [NAME]
    learned = []
    def predict(self, X, features_names=None):
        calls.append(len(X))
        return [[f"{NAME}:{row[0]:g}"] for row in X]
    def send_feedback(self, features, feature_names, reward, truth, routing=None):
        self.learned.append((reward, routing))
"""
SUM = """
class Sum:
    def predict(self, X):
        return X.sum(axis=1, keepdims=True) + %d
"""
COMBINER = """
class Least:
    def aggregate(self, values, names):
        return [min(row) for row in zip(*[v[:, 0] for v in values])]
"""
OUTPUT = """
class Loud:
    def transform_output(self, X, names):
        return [[f"{names[0]}={row[0]}"] for row in X]
"""


@pytest.fixture
def grown(tmp_path: Path) -> Callable[..., LoadedModel]:
    """Writes the folders of a graph and loads it."""

    def grow(graph: GraphNode, **code: str | dict[str, str]) -> LoadedModel:
        for name, files in code.items():
            (tmp_path / name).mkdir()
            for file, text in ({"model.py": files} if isinstance(files, str) else files).items():
                (tmp_path / name / file).write_text(text)
        return load_graph(tmp_path, graph, stage=lambda _: None)

    return grow


def node(name: str, type_: str, *children: GraphNode, **more: Any) -> GraphNode:
    return GraphNode(name=name, type=type_, children=children, **more)  # type: ignore[arg-type]


def named(name: str) -> dict[str, str]:
    return {"model.py": MODEL, "words.py": f"NAME = {name!r}\n"}


def answers(model: LoadedModel, *bodies: Any) -> list[Any]:
    async def main() -> list[Any]:
        bench = Bench(model)
        return list(await asyncio.gather(*(bench.ask(b, PATH, x_request_id=f"r{i}") for i, b in enumerate(bodies))))

    found = asyncio.run(main())
    assert [status for status, _ in found] == [200] * len(bodies), found
    return [answer for _, answer in found]


def rows(*values: list[float]) -> dict[str, Any]:
    return {"data": {"ndarray": [list(v) for v in values]}}


def test_transformer_router_models_and_output_transformer(grown: Callable[..., LoadedModel]) -> None:
    graph = node(
        "loud",
        "OUTPUT_TRANSFORMER",
        node("halves", "TRANSFORMER", node("router", "ROUTER", node("a", "MODEL"), node("b", "MODEL"))),
    )
    model = grown(graph, loud=OUTPUT, halves=TRANSFORMER, router=ROUTER, a=named("a"), b=named("b"))
    (answer,) = answers(model, rows([2, 0]))
    assert answer["data"] == {"names": ["t:0"], "ndarray": [["b=b:1"]]}
    assert answer["meta"] == {
        "puid": "r0",
        "requestPath": dict.fromkeys(("loud", "halves", "router", "b"), "iris:v1"),
        "routing": {"router": 1},
        "tags": {"halved": True},
        "metrics": [{"type": "COUNTER", "key": "halvings", "value": 1}],
    }


def test_requests_of_a_batch_are_routed_one_by_one_and_come_back_in_order(grown: Callable[..., LoadedModel]) -> None:
    graph = node("loud", "OUTPUT_TRANSFORMER", node("router", "ROUTER", node("a", "MODEL"), node("b", "MODEL")))
    model = grown(graph, loud=OUTPUT, router=ROUTER, a=named("a"), b=named("b"))
    bodies = [rows([i % 2, 0]) if i % 3 else rows([i % 2, 0], [7 + i, 0]) for i in range(24)]
    found = answers(model, *bodies)
    for i, answer in enumerate(found):
        letter = "ab"[i % 2]
        wanted = [[f"{letter}={letter}:{row[0]:g}"] for row in bodies[i]["data"]["ndarray"]]
        assert answer["data"]["ndarray"] == wanted, i
        assert answer["meta"]["routing"] == {"router": i % 2}
        assert letter in answer["meta"]["requestPath"]
    router, (a, b) = model.subject.root.children[0], model.subject.root.children[0].children
    assert router.subject.asked == 24
    for one in (a, b):
        calls = one.subject.predict.__globals__["calls"]
        assert sum(calls) == 16
        assert len(calls) < 12, "requests that share a way share calls"


def test_a_combiner_gets_what_all_children_answer(grown: Callable[..., LoadedModel]) -> None:
    graph = node("least", "COMBINER", node("one", "MODEL"), node("two", "MODEL"))
    model = grown(graph, least=COMBINER, one=SUM % 5, two=SUM % 1)
    first, second = answers(model, rows([1, 2]), rows([3, 4], [5, 6]))
    assert first["data"]["ndarray"] == [4.0]
    assert second["data"]["ndarray"] == [8.0, 12.0]
    assert "routing" not in first["meta"]


def test_built_in_nodes() -> None:
    graph = node(
        "mean",
        "COMBINER",
        node("m", "MODEL", implementation="SIMPLE_MODEL"),
        node("r", "ROUTER", node("n", "MODEL", implementation="SIMPLE_MODEL"), implementation="SIMPLE_ROUTER"),
        implementation="AVERAGE_COMBINER",
    )
    model = load_graph(Path(), graph, stage=lambda _: None)
    (answer,) = answers(model, rows([1], [2]))
    assert answer["data"] == {"names": ["class0", "class1", "class2"], "ndarray": [[0.1, 0.9, 0.5]] * 2}
    assert answer["meta"]["routing"] == {"r": 0}


def test_an_ab_test_keeps_its_ratio() -> None:
    children = [node(name, "MODEL", implementation="SIMPLE_MODEL") for name in "ab"]
    graph = node("ab", "ROUTER", *children, implementation="RANDOM_ABTEST", parameters={"ratioA": 0.25})
    model = load_graph(Path(), graph, stage=lambda _: None)
    model.subject.root.subject._random.seed(7)
    found = answers(model, *[rows([1]) for _ in range(250)])
    share = sum(answer["meta"]["routing"]["ab"] == 0 for answer in found) / 250
    assert 0.17 < share < 0.33
    with pytest.raises(LoadFailed, match="ratioA is a share"):
        load_graph(
            Path(),
            node("ab", "ROUTER", *children, implementation="RANDOM_ABTEST", parameters={"ratioA": 2}),
            stage=print,
        )


def test_a_router_may_ask_for_all_and_names_no_child_that_is_not_there(grown: Callable[..., LoadedModel]) -> None:
    graph = node("router", "ROUTER", node("a", "MODEL"), node("b", "MODEL"))
    model = grown(graph, router=ROUTER, a=named("a"), b=named("b"))
    (answer,) = answers(model, rows([-1]))
    assert answer["data"]["ndarray"] == [["a:-1"]]
    assert answer["meta"]["routing"] == {"router": -1}
    assert list(answer["meta"]["requestPath"]) == ["router", "a", "b"]

    async def ask() -> tuple[int, Any]:
        return await Bench(model).ask(rows([2]), PATH)

    status, refused = asyncio.run(ask())
    assert (status, refused["error"]["code"]) == (500, "model_failed")
    assert "router router chose '2'" in refused["error"]["message"]


def test_one_request_that_fails_fails_alone(grown: Callable[..., LoadedModel]) -> None:
    model = grown(
        node("router", "ROUTER", node("a", "MODEL"), node("b", "MODEL")), router=ROUTER, a=named("a"), b=named("b")
    )

    async def main() -> list[tuple[int, Any]]:
        bench = Bench(model)
        return list(await asyncio.gather(*(bench.ask(rows([i]), PATH) for i in (0, 9, 1))))

    assert [status for status, _ in asyncio.run(main())] == [200, 500, 200]


def test_parameters_reach_constructors_with_their_types(grown: Callable[..., LoadedModel]) -> None:
    graph = node("halves", "TRANSFORMER", node("one", "MODEL"), parameters={"by": 4})
    model = grown(graph, halves=TRANSFORMER, one=SUM % 0)
    assert answers(model, rows([8, 4]))[0]["data"]["ndarray"] == [[3.0]]


def test_a_node_that_takes_a_frame_gets_one(grown: Callable[..., LoadedModel]) -> None:
    framed = "import pandas as pd\nclass M:\n    def predict(self, X: pd.DataFrame):\n        return X['b'] - X['a']\n"
    graph = node("r", "ROUTER", node("m", "MODEL"), implementation="SIMPLE_ROUTER")
    model = grown(graph, m=framed)
    assert answers(model, {"data": {"names": ["a", "b"], "ndarray": [[1, 5]]}})[0]["data"]["ndarray"] == [4]


def test_other_payloads_go_through_as_they_are(grown: Callable[..., LoadedModel]) -> None:
    text = "class T:\n    def transform_input(self, X, names):\n        return X.upper()\n"
    end = "class M:\n    def predict(self, X, names=None):\n        return {'said': X}\n"
    model = grown(node("t", "TRANSFORMER", node("m", "MODEL")), t=text, m=end)
    assert answers(model, {"strData": "hi"}, {"strData": "ho"})[1]["jsonData"] == {"said": "HO"}


def test_a_node_that_does_not_answer_row_by_row_is_asked_about_each_request(grown: Callable[..., LoadedModel]) -> None:
    total = "class T:\n    def predict(self, X):\n        return [float(X.sum())]\n"
    model = grown(node("r", "ROUTER", node("t", "MODEL"), implementation="SIMPLE_ROUTER"), t=total)
    found = answers(model, rows([1], [2]), rows([3]), rows([4], [5]))
    assert [answer["data"]["ndarray"] for answer in found] == [[3.0], [3.0], [9.0]]
    assert not model.together


def test_other_formats_are_answered_too(grown: Callable[..., LoadedModel]) -> None:
    model = grown(
        node("least", "COMBINER", node("one", "MODEL"), node("two", "MODEL")), least=COMBINER, one=SUM % 5, two=SUM % 1
    )

    async def main() -> Any:
        return await Bench(model).predict([[1, 2], [3, 4]])

    assert asyncio.run(main()) == [4.0, 8.0]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("class M:\n    def predict(self, X):\n        return X\n", "has no route|defines no model"),
        (
            "class M:\n    def __init__(self, k):\n        pass\n    def route(self, X):\n        return 0\n",
            "needs arguments: k",
        ),
        (
            "class M:\n    def route(self, X):\n        return 0\n    def __init__(self): raise KeyError('x')\n",
            "KeyError",
        ),
    ],
)
def test_what_cannot_be_loaded_is_told(grown: Callable[..., LoadedModel], code: str, said: str) -> None:
    with pytest.raises(LoadFailed, match=said):
        grown(node("r", "ROUTER", node("m", "MODEL", implementation="SIMPLE_MODEL")), r=code)


def test_prepackaged_scikit_learn_answers_probabilities(tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    linear = pytest.importorskip("sklearn.linear_model")
    fitted = linear.LogisticRegression().fit(np.array([[0.0], [1.0], [2.0], [3.0]]), [0, 0, 1, 1])
    (tmp_path / "c").mkdir()
    joblib.dump(fitted, tmp_path / "c" / "model.joblib")
    model = load_graph(tmp_path, node("c", "MODEL", implementation="SKLEARN_SERVER"), stage=lambda _: None)
    (answer,) = answers(model, rows([0.5], [2.5]))
    assert np.allclose(answer["data"]["ndarray"], fitted.predict_proba([[0.5], [2.5]]))
    by_class = node("c", "MODEL", implementation="SKLEARN_SERVER", parameters={"method": "predict"})
    (answer,) = answers(load_graph(tmp_path, by_class, stage=lambda _: None), rows([0.5], [2.5]))
    assert answer["data"]["ndarray"] == [0, 1]


def feedback(model: LoadedModel, body: Any, *, path: str = "/api/v1.0/feedback") -> tuple[int, Any, str]:
    async def main() -> tuple[int, Any, str]:
        bench = Bench(model)
        status, answer = await bench.ask(body, path)
        _, metrics = await bench.ask(path="/metrics")
        return status, answer, metrics

    return asyncio.run(main())


def test_feedback_follows_the_routing(grown: Callable[..., LoadedModel]) -> None:
    model = grown(
        node("router", "ROUTER", node("a", "MODEL"), node("b", "MODEL")), router=ROUTER, a=named("a"), b=named("b")
    )
    message = {
        "request": {"data": {"names": ["x"], "ndarray": [[1.5]]}},
        "response": {"meta": {"puid": "r7", "routing": {"router": 1}, "requestPath": {"router": "iris:v1"}}},
        "truth": {"data": {"ndarray": [3]}},
        "reward": 0.5,
    }
    status, answer, metrics = feedback(model, message)
    assert (status, answer) == (200, {"meta": {"puid": "r7"}})
    router = model.subject.root
    assert router.subject.learned == [([[1.5]], ["x"], 0.5, [3], 1)]
    assert [child.subject.learned for child in router.children] == [[], [(0.5, None)]]
    assert 'headway_feedback_messages_total{model="iris",version="v1"} 1' in metrics
    assert 'headway_feedback_reward_total{model="iris",version="v1",sign="positive"} 0.5' in metrics


def test_feedback_of_a_model_without_send_feedback_is_counted() -> None:
    model = LoadedModel(lambda X: X, Path(), name="echo")  # noqa: N803
    status, answer, metrics = feedback(model, {"reward": -2})
    assert (status, answer) == (200, {"meta": {}})
    assert 'sign="negative"} 2' in metrics


class Learner:
    """A model of its own that answers feedback."""

    def predict(self, X: pd.DataFrame) -> Any:  # noqa: N803
        return X

    def send_feedback(self, features: Any, feature_names: Any, reward: float, truth: Any) -> Any:
        if reward > 1:
            raise KeyError("too good")
        return {"learned": reward}


def test_what_send_feedback_returns_and_raises_is_told() -> None:
    model = LoadedModel(Learner(), Path(), name="Learner")
    assert feedback(model, {"reward": 1})[:2] == (200, {"jsonData": {"learned": 1.0}, "meta": {}})
    status, answer, _ = feedback(model, {"reward": 2})
    assert (status, answer["error"]["code"]) == (500, "model_failed")
    assert "KeyError: 'too good'" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ([], None),
        ({"reward": "much"}, "reward"),
        ({"rewrad": 1}, None),
        ({"request": {"data": {"ndarray": [[1]], "tensor": {}}}}, "request.data"),
        ({"response": {"meta": {"routing": {"r": "x"}}}}, "response.meta.routing"),
    ],
)
def test_a_feedback_that_is_none_is_refused(body: Any, where: str | None) -> None:
    status, answer, metrics = feedback(LoadedModel(Learner(), Path(), name="Learner"), body)
    assert status == 400
    assert answer["error"].get("where") == where
    assert 'headway_feedback_messages_total{model="iris",version="v1"} 0' in metrics


def test_a_feedback_about_another_version_is_not_counted_here() -> None:
    body = {"reward": 1, "response": {"meta": {"requestPath": {"iris": "iris:v2"}}}}
    status, answer, metrics = feedback(LoadedModel(Learner(), Path(), name="Learner"), body)
    assert (status, answer["error"]["code"]) == (409, "conflict")
    assert answer["error"]["hint"] == "send it to /models/iris/versions/v2/api/v1.0/feedback"
    assert 'headway_feedback_messages_total{model="iris",version="v1"} 0' in metrics
    assert json.dumps(body)
