"""What the `OTEL_*` variables say about export, with our defaults where they say nothing."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.util.re import parse_env_headers

DEFAULT_ENDPOINT: Final = "http://127.0.0.1:4318"
"""Where a collector on the same machine listens for OTLP/HTTP."""

COMPRESSIONS: Final = frozenset({"none", "gzip", "deflate"})
"""What `OTEL_EXPORTER_OTLP_COMPRESSION` may say."""

_log = logging.getLogger("hopwatch")


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """Where spans go, and how many may wait for it."""

    url: str = f"{DEFAULT_ENDPOINT}/v1/traces"
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 10.0
    compression: str = "none"
    certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    every_s: float = 0.5
    queued_spans: int = 32_768
    queued_bytes: int = 32 << 20
    request_spans: int = 4_096


def export_settings(endpoint: str | None = None) -> ExportSettings:
    """Return what is asked for; `endpoint` is a base address, and wins over the variables."""
    ours = ExportSettings()
    compression = (_otlp("COMPRESSION") or ours.compression).strip().lower()
    if compression not in COMPRESSIONS:
        _log.warning("unknown OTEL_EXPORTER_OTLP_COMPRESSION %r: spans are sent uncompressed", compression)
        compression = ours.compression
    queued = max(1, int(_amount("OTEL_BSP_MAX_QUEUE_SIZE", ours.queued_spans)))
    return ExportSettings(
        url=_url(endpoint),
        headers=parse_env_headers(_otlp("HEADERS") or "", liberal=True),
        timeout_s=_amount(_otlp_name("TIMEOUT"), ours.timeout_s),
        compression=compression,
        certificate=_otlp("CERTIFICATE"),
        client_certificate=_otlp("CLIENT_CERTIFICATE"),
        client_key=_otlp("CLIENT_KEY"),
        every_s=_amount("OTEL_BSP_SCHEDULE_DELAY", ours.every_s * 1000) / 1000,
        queued_spans=queued,
        request_spans=min(queued, max(1, int(_amount("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", ours.request_spans)))),
    )


def _url(endpoint: str | None) -> str:
    if endpoint is None and (said := os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
        return said
    base = endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or DEFAULT_ENDPOINT
    return f"{base.rstrip('/')}/v1/traces"


def _otlp_name(what: str) -> str:
    """Return the variable that decides: the one for traces, else the one for everything."""
    own = f"OTEL_EXPORTER_OTLP_TRACES_{what}"
    return own if os.environ.get(own) else f"OTEL_EXPORTER_OTLP_{what}"


def _otlp(what: str) -> str | None:
    return os.environ.get(_otlp_name(what)) or None


def _amount(name: str, default: float) -> float:
    said = os.environ.get(name, "").strip()
    try:
        amount = float(said) if said else default
    except ValueError:
        amount = -1.0
    if amount > 0:
        return amount
    _log.warning("%s=%r is no amount: %g is used", name, said, default)
    return default
