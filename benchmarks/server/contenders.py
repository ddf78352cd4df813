"""Who is measured, and how each is started: Headway, its peers, and the prototypes of Headway's HTTP layer.

Each peer is served as its own documentation advises for one core: one worker, access log off, its own batching
where that makes it faster. The servers are files in ``peers/``; the pinned packages are in ``requirements/``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]

MODELS: Final = {"logistic": "LogisticRegression", "forest": "RandomForest(100)"}

Row = list[float]


@dataclass(frozen=True, slots=True)
class Site:
    """What a server is given for one visit."""

    python: Path
    """The interpreter of its environment."""
    model_name: str
    model: Path
    """The joblib file."""
    folder: Path
    """Empty, removed after the visit."""
    ports: tuple[int, int, int]
    """Free ones; requests go to the first."""

    @property
    def port(self) -> int:
        return self.ports[0]

    @property
    def bin(self) -> Path:
        return self.python.parent

    @property
    def batching(self) -> bool:
        """Whether the model gains by its peers' batching; for the other the wait costs more than it brings."""
        return self.model_name == "forest"


@dataclass(frozen=True, slots=True)
class Contender:
    """One server."""

    name: str
    title: str
    package: str
    """Whose version the table shows."""
    path: str
    body: Callable[[list[Row]], Any]
    """The JSON document that asks for these rows."""
    command: Callable[[Site], list[str]]
    switched_on: str
    """For the page: how it runs, and its batching for the forest."""
    requirements: str = ""
    """Stem of the file in ``requirements/``; the name when empty."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """``{folder}`` stands for the visit's folder."""
    prepare: Callable[[Site], list[str]] | None = None
    """A command to run once per model before any visit, in the environment; it may write beside the model."""

    @property
    def pins(self) -> Path:
        return HERE / "requirements" / f"{self.requirements or self.name}.txt"

    def request(self, rows: list[Row]) -> bytes:
        """The body that asks for ``rows``."""
        return json.dumps(self.body(rows), separators=(",", ":")).encode()


def predictions(answer: Any) -> list[Any]:
    """The classes in an answer, whoever gave it. Raises ``ValueError`` when there are none."""
    if isinstance(answer, list):
        return answer
    if isinstance(answer, dict):
        if "predictions" in answer:
            return list(answer["predictions"])
        if "prediction" in answer:
            return [answer["prediction"]]
        if answer.get("outputs"):
            return list(answer["outputs"][0]["data"])
    raise ValueError(f"no prediction in {str(answer)[:200]}")


def _script(name: str) -> Callable[[Site], list[str]]:
    return lambda site: [str(site.python), str(HERE / "peers" / name)]


def write_headway_config(site: Site) -> Path:
    """A config for Headway's model server, with the query log on; a bundle that holds the joblib file."""
    bundle = site.folder / "bundle"
    bundle.mkdir()
    (bundle / "model.joblib").symlink_to(site.model)
    config = {
        "replica_id": "bench-1",
        "model": "iris",
        "version": "v1",
        "digest": "0" * 64,
        "bundle_path": str(bundle),
        "listen": f"tcp:127.0.0.1:{site.port}",
        "query_log_dir": str(site.folder / "query-log"),
    }
    path = site.folder / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def _headway(site: Site) -> list[str]:
    return [str(site.python), "-m", "headway.server", str(write_headway_config(site))]


def _layer(module: str) -> Callable[[Site], list[str]]:
    def command(site: Site) -> list[str]:
        return [str(site.python), "-m", f"benchmarks.server.layers.{module}", str(write_headway_config(site))]

    return command


def _fastapi(site: Site) -> list[str]:
    return [
        *(str(site.bin / "uvicorn"), "fastapi_app:app", "--app-dir", str(HERE / "peers")),
        *("--host", "127.0.0.1", "--port", str(site.port), "--loop", "uvloop", "--http", "httptools"),
        *("--no-access-log", "--log-level", "warning"),
    ]


def _mlserver(site: Site) -> list[str]:
    server = {
        "debug": False,
        "parallel_workers": 0,
        "host": "127.0.0.1",
        "http_port": site.ports[0],
        "grpc_port": site.ports[1],
        "metrics_port": site.ports[2],
        "metrics_dir": str(site.folder),
    }
    model: dict[str, Any] = {
        "name": "iris",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(site.model)},
    }
    if site.batching:
        model |= {"max_batch_size": 64, "max_batch_time": 0.002}
    (site.folder / "settings.json").write_text(json.dumps(server), encoding="utf-8")
    (site.folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    return [str(site.bin / "mlserver"), "start", str(site.folder)]


def _bentoml(site: Site) -> list[str]:
    return [
        *(str(site.bin / "bentoml"), "serve", "bentoml_service:Iris", "--working-dir", str(HERE / "peers")),
        *("--host", "127.0.0.1", "--port", str(site.port)),
    ]


def _mlflow_folder(site: Site) -> Path:
    return site.model.parent / "mlflow"


def _mlflow_save(site: Site) -> list[str]:
    return [str(site.python), str(HERE / "peers" / "mlflow_save.py"), str(site.model), str(_mlflow_folder(site))]


def _mlflow(site: Site) -> list[str]:
    return [
        *(str(site.bin / "mlflow"), "models", "serve", "--model-uri", str(_mlflow_folder(site))),
        *("--host", "127.0.0.1", "--port", str(site.port), "--workers", "1", "--env-manager", "local"),
    ]


def _open_inference(rows: list[Row]) -> Any:
    data = [value for row in rows for value in row]
    tensor = {"name": "x", "datatype": "FP64", "shape": [len(rows), len(rows[0])], "data": data}
    return {"inputs": [tensor]}


HEADWAY: Final = Contender(
    "headway",
    "Headway",
    "headway",
    "/predict",
    lambda rows: rows,
    _headway,
    "Its defaults: validation, metrics, request ids, limits, query log. Batches whatever waits.",
    environment={"PYTHONPATH": str(ROOT / "src")},
)

PEERS: Final = (
    Contender(
        "fastapi",
        "FastAPI by hand",
        "fastapi",
        "/predict",
        lambda rows: rows,
        _fastapi,
        "uvicorn with uvloop and httptools, typed body and answer, model called on the event loop; no batching.",
    ),
    Contender(
        "kserve",
        "KServe",
        "kserve",
        "/v1/models/iris:predict",
        lambda rows: {"instances": rows},
        _script("kserve_app.py"),
        "Custom model, v1 protocol, gRPC and latency log off; its batcher is a sidecar, not in the Python package.",
    ),
    Contender(
        "mlserver",
        "MLServer",
        "mlserver",
        "/v2/models/iris/infer",
        _open_inference,
        _mlserver,
        "Its scikit-learn runtime, `parallel_workers` 0; forest: `max_batch_size` 64, `max_batch_time` 2 ms.",
    ),
    Contender(
        "mlflow",
        "MLflow",
        "mlflow",
        "/invocations",
        lambda rows: {"inputs": rows},
        _mlflow,
        "`mlflow models serve`, one worker, uvloop and httptools installed; it has no batching.",
        environment={"MLFLOW_ENABLE_TELEMETRY": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        prepare=_mlflow_save,
    ),
    Contender(
        "litserve",
        "LitServe",
        "litserve",
        "/predict",
        lambda rows: {"row": rows[0]},
        _script("litserve_app.py"),
        "One worker; forest: `max_batch_size` 64, `batch_timeout` 2 ms.",
    ),
    Contender(
        "ray",
        "Ray Serve",
        "ray",
        "/predict",
        lambda rows: rows,
        _script("ray_app.py"),
        "One replica, its HAProxy in front, access log off; forest: `serve.batch` of 64, 2 ms.",
        environment={
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_HAPROXY_NBTHREAD": "1",
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "{folder}/h/haproxy.cfg",
            "RAY_SERVE_HAPROXY_SOCKET_PATH": "{folder}/h/admin.sock",
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "{folder}/h",
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "{folder}/h/server-state",
            "RAY_USAGE_STATS_ENABLED": "0",
        },
    ),
    Contender(
        "bentoml",
        "BentoML",
        "bentoml",
        "/predict",
        lambda rows: {"rows": rows},
        _bentoml,
        "One worker, access log off; forest: `batchable`, `max_batch_size` 64.",
        environment={"BENTOML_DO_NOT_TRACK": "True"},
    ),
)

LAYERS: Final = tuple(
    Contender(
        f"layer-{name}",
        title,
        package,
        "/predict",
        lambda rows: rows,
        command,
        about,
        requirements="layers",
        environment={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    )
    for name, title, package, command, about in (
        ("protocol", "asyncio protocol", "httptools", _headway, "Headway as it is."),
        ("uvicorn", "ASGI on uvicorn", "uvicorn", _layer("on_uvicorn"), "A bare ASGI app; uvloop, httptools."),
        ("granian", "RSGI on Granian", "granian", _layer("on_granian"), "One worker, one runtime thread, uvloop."),
    )
)

ALL: Final = {contender.name: contender for contender in (HEADWAY, *PEERS, *LAYERS)}

if sys.platform != "linux":
    raise SystemExit("the benchmark pins processes with taskset and reads /proc: it runs on Linux only")
