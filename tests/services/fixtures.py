"""One of each service per test session and worker, started when a test asks for it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.services.process import ServiceProcess, listens, ordinary_user
from tests.waiting import PortPicker

Require = Callable[[str, object], None]
PASSWORD = "s3cr3t-of-the-service"
"""Of every service: whatever holds this text in a message has leaked it."""


class RedisService(ServiceProcess):
    port: int
    password = PASSWORD


class PostgresqlService(ServiceProcess):
    port: int
    password = PASSWORD

    @property
    def address(self) -> str:
        return self.at(self.port)

    def at(self, port: int, password: str = PASSWORD, database: str = "postgres") -> str:
        return f"postgresql://headway:{password}@127.0.0.1:{port}/{database}"


class PrometheusService(ServiceProcess):
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/prefix"


class RabbitmqService(ServiceProcess):
    amqp_port: int
    http_port: int
    password = PASSWORD


def _redis_answers(port: int) -> bool:
    if not listens(port):
        return False
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))


@pytest.fixture(scope="session")
def redis_service(require_service: Require, free_port: PortPicker) -> Iterator[RedisService]:
    binary = shutil.which("redis-server")
    require_service("Redis (redis-server)", binary)
    service = RedisService("Redis")
    service.port = port = free_port()
    try:
        options = f"--bind 127.0.0.1 --port {port} --requirepass {PASSWORD} --appendonly yes --appendfsync no --save"
        service.run([str(binary), *options.split(), "", "--dir", service.folder], lambda: _redis_answers(port))
        yield service
    finally:
        service.remove()


def find_postgresql() -> Path | None:
    """The folder of ``postgres`` and ``initdb``; Debian keeps it out of PATH."""
    known = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("postgres")
    folders = [*([Path(on_path).resolve().parent] if on_path else []), *known]
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@pytest.fixture(scope="session")
def postgresql_service(require_service: Require, free_port: PortPicker) -> Iterator[PostgresqlService]:
    binaries = find_postgresql()
    require_service("PostgreSQL (postgres, initdb)", binaries)
    assert binaries is not None
    service = PostgresqlService("PostgreSQL")
    service.port = port = free_port()
    data, user = service.folder / "data", ordinary_user()
    try:
        service.own(user, data, service.folder / "tmp")
        secret = service.folder / "password"
        secret.write_text(PASSWORD)
        initdb = [binaries / "initdb", "-D", data, "-U", "headway", "-A", "scram-sha-256", "--no-sync", "-E", "UTF8"]
        subprocess.run(
            [*map(str, initdb), "--no-locale", f"--pwfile={secret}"],
            check=True,
            capture_output=True,
            timeout=180,
            user=user,
            cwd=service.folder,
        )
        fast = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=16MB", "jit=off")
        here = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "logging_collector=off")
        ask = [str(binaries / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-U", "headway", "-d", "postgres"]
        options = [part for setting in (*fast, *here) for part in ("-c", setting)]
        service.run(
            [binaries / "postgres", "-D", data, "-p", str(port), *options],
            lambda: listens(port) and subprocess.run(ask, capture_output=True, timeout=60).returncode == 0,
            user=user,
        )
        yield service
    finally:
        service.remove()


@pytest.fixture(scope="session")
def prometheus_service(require_service: Require, free_port: PortPicker) -> Iterator[PrometheusService]:
    binary = shutil.which("prometheus")
    require_service("Prometheus", binary)
    service = PrometheusService("Prometheus")
    service.port = port = free_port()
    config = service.folder / "prometheus.yml"
    config.write_text("scrape_configs: []\n")

    def answers() -> bool:
        return listens(port) and httpx.get(f"{service.address}/-/ready", trust_env=False, timeout=30).status_code == 200

    try:
        service.run(
            [
                str(binary),
                f"--config.file={config}",
                f"--storage.tsdb.path={service.folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                f"--web.external-url={service.address}",
            ],
            answers,
        )
        yield service
    finally:
        service.remove()


@pytest.fixture(scope="session")
def rabbitmq_service(require_service: Require, free_port: PortPicker) -> Iterator[RabbitmqService]:
    """With the management plugin; user ``headway``."""
    # Not /usr/sbin/rabbitmq-server: that is a wrapper which becomes another user and moves elsewhere.
    known = (
        Path("/usr/lib/rabbitmq/bin/rabbitmq-server"),
        *Path("/usr/lib/rabbitmq/lib").glob("*/sbin/rabbitmq-server"),
    )
    binary = next((str(path) for path in known if path.exists()), None)
    require_service("RabbitMQ (rabbitmq-server)", binary)
    assert binary is not None
    service = RabbitmqService("RabbitMQ")
    service.amqp_port, service.http_port = free_port(), free_port()
    folder = service.folder
    (folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
    (folder / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = 127.0.0.1:{service.amqp_port}\n"
        "management.tcp.ip = 127.0.0.1\n"
        f"management.tcp.port = {service.http_port}\n"
        f"default_user = headway\ndefault_pass = {PASSWORD}\n"
        "collect_statistics_interval = 200\n"
        "management.sample_retention_policies.global.minute = 1\n"
        "management.sample_retention_policies.basic.minute = 1\n"
        "management.sample_retention_policies.detailed.minute = 1\n"
        "log.console = true\nlog.console.level = warning\nlog.file = false\n"
        "disk_free_limit.absolute = 1MB\n"
    )
    env = {
        "HOME": str(folder / "home"),  # the cookie of its cluster
        "RABBITMQ_NODENAME": f"headway-{service.amqp_port}@localhost",
        "RABBITMQ_CONF_ENV_FILE": str(folder / "no-such-file"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "no-such-advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "ERL_EPMD_PORT": str(free_port()),  # a name daemon of its own, which ends with it
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
    }

    def answers() -> bool:
        if not (listens(service.amqp_port) and listens(service.http_port)):
            return False
        try:
            answer = httpx.get(
                f"http://127.0.0.1:{service.http_port}/api/health/checks/virtual-hosts",
                auth=("headway", PASSWORD),
                trust_env=False,
                timeout=30,
            )
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    try:
        service.run([binary], answers, env=env, timeout_s=240)  # a busy machine takes its time
        yield service
    finally:
        service.remove()


@pytest.fixture(scope="session")
def rscript(require_service: Require) -> str:
    """Rscript of R: the one that ``HEADWAY_RSCRIPT`` names, or that is on PATH."""
    found = shutil.which(os.environ.get("HEADWAY_RSCRIPT", "Rscript"))
    require_service("R (r-base-core)", found)
    return str(found)
