"""Settings of a Headway installation: environment variables ``HEADWAY_…``, read once at start."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

DEFAULT_DATA_PORT = 8420
DEFAULT_CONTROL_PORT = 8421


class Settings(BaseSettings):
    """Every setting with its default; ``docs/reference/settings.md`` is checked against it."""

    model_config = SettingsConfigDict(env_prefix="HEADWAY_", extra="ignore", frozen=True)

    home: Path = Field(default_factory=lambda: Path.home() / ".headway", description="State, bundles, logs.")
    data_host: str = Field(default="127.0.0.1", description="Address of the data listener (the gateway).")
    data_port: int = Field(default=DEFAULT_DATA_PORT, ge=1, le=65535, description="Port of the data listener.")
    control_host: str = Field(default="127.0.0.1", description="Address of the control listener.")
    control_port: int = Field(default=DEFAULT_CONTROL_PORT, ge=1, le=65535, description="Port of the control API.")
    url: str | None = Field(default=None, description="Control API that the CLI talks to; default: this home's.")
    token: str | None = Field(
        default=None, repr=False, description="Token for the control API; default: this home's own admin token."
    )
    haproxy: str | None = Field(default=None, description="HAProxy binary to use instead of the shipped one.")
    keep_alive_s: float = Field(default=5.0, gt=0, description="How long the gateway keeps an idle connection open.")

    @property
    def home_path(self) -> Path:
        """``home``, absolute, with ``~`` resolved."""
        return self.home.expanduser().absolute()


def is_loopback(host: str) -> bool:
    """Whether a listener on ``host`` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
