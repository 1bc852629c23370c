"""Settings of an installation, from environment variables ``ALIGNMENT_OPERATOR_*``.

What a user decides per run is in the resource; what nobody should turn is a constant where it is used.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from alignment_operator.errors import SettingsError

__all__ = ["PREFIX", "Settings", "read_settings"]

PREFIX = "ALIGNMENT_OPERATOR_"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings; each field is the variable ``ALIGNMENT_OPERATOR_<FIELD IN CAPITALS>``."""

    trainer_image: str
    """Image of the stages' pods. Required; pin it by digest."""
    image_pull_policy: str = "IfNotPresent"
    """Always, IfNotPresent or Never, for the stages' pods."""
    namespaces: tuple[str, ...] = ()
    """Namespaces to watch, separated by commas; empty: the whole cluster."""
    workers: int = 16
    """Runs reconciled at the same time."""
    queries_per_second: float = 200.0
    """API requests per second, on average."""
    burst: int = 400
    """API requests that may come at once."""
    resync_seconds: float = 600.0
    """Seconds between two complete listings, which repair whatever a watch missed."""
    progress_seconds: float = 30.0
    """Seconds between two readings of a running stage's progress; 0: never read."""
    listen: str = ":8080"
    """host:port of /metrics, /healthz and /readyz; without a host: all addresses, of IPv4 and IPv6."""
    per_run_metrics: bool = True
    """Export series per run (at most 10 each); false: only the operator's own and the totals."""
    kueue: bool = False
    """Read Kueue's Workloads to say why a queued run waits; needs Kueue's API and the right to read it."""
    leader_election: bool = False
    """Elect one working replica through a Lease; for two replicas or more."""
    lease_name: str = "alignment-operator"
    """Name of that Lease."""
    lease_namespace: str = "default"
    """Its namespace; the chart sets the operator's own."""
    lease_seconds: float = 10.0
    """How long a silent leader stays leader; a standby takes over within this time and two seconds."""
    identity: str = field(default_factory=socket.gethostname)
    """This replica's name in the Lease; the chart sets the pod's name."""
    pod_env: Mapping[str, str] = field(default_factory=dict)
    """Further environment of all stage pods as a JSON object, e.g. a proxy: {"HTTPS_PROXY": "http://proxy:3128"}."""
    pod_user: int | None = None
    """User id of the stage pods; unset: the image's own. Leave unset on OpenShift."""
    pod_fs_group: int | None = None
    """Group that owns mounted volumes; needed where pvc:// volumes belong to root. Leave unset on OpenShift."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment. Raises SettingsError naming the variable."""
    source = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for name, parse in _PARSERS.items():
        variable = PREFIX + name.upper()
        text = source.get(variable, "").strip()
        if not text:
            continue
        try:
            values[name] = parse(text)
        except (ValueError, TypeError) as error:
            raise SettingsError(f"{variable}={text!r} {error}") from error
    if "trainer_image" not in values:
        raise SettingsError(
            f"{PREFIX}TRAINER_IMAGE is not set; give the image of the stages' pods (the chart does)."
        )
    return Settings(**values)


def _number(lowest: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not lowest <= value < float("inf"):
            raise ValueError(f"is not a number of at least {lowest:g}.")
        return value

    return parse


def _whole(lowest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < lowest:
            raise ValueError(f"is not a whole number of at least {lowest}.")
        return int(text)

    return parse


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("is neither true nor false.")
    return text.lower() == "true"


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"is none of {', '.join(words)}.")
        return text

    return parse


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _environment(text: str) -> dict[str, str]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError("is not a JSON object of strings.")
    return value


def _address(text: str) -> str:
    _, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError("is not host:port.")
    return text


_PARSERS: dict[str, Callable[[str], Any]] = {
    "trainer_image": str,
    "image_pull_policy": _one_of("Always", "IfNotPresent", "Never"),
    "namespaces": _names,
    "workers": _whole(1),
    "queries_per_second": _number(1.0),
    "burst": _whole(1),
    "resync_seconds": _number(1.0),
    "progress_seconds": _number(0.0),
    "listen": _address,
    "per_run_metrics": _boolean,
    "kueue": _boolean,
    "leader_election": _boolean,
    "lease_name": str,
    "lease_namespace": str,
    "lease_seconds": _number(3.0),
    "identity": str,
    "pod_env": _environment,
    "pod_user": _whole(1),
    "pod_fs_group": _whole(1),
    "log_level": _one_of("DEBUG", "INFO", "WARNING", "ERROR"),
}
