"""Where and how spans are exported: what the environment says, and that it is done."""

import ssl
from pathlib import Path

import pytest
from opentelemetry.sdk.resources import Resource
from support.sink import Sink

from hopwatch.lean.provider import LeanTracerProvider
from hopwatch.lean.queue import SpanQueue
from hopwatch.lean.sender import pause
from hopwatch.lean.settings import ExportSettings, export_settings
from hopwatch_demo.patience import scale_wait

LOCALHOST = Path(__file__).with_name("localhost.pem")
"""Key and certificate of 127.0.0.1, for these tests only; the certificate is its own authority."""

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
GIVES_UP_S = 1.5
"""How long something is tried that must not succeed."""


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of whoever runs the tests counts."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def export_one(settings: ExportSettings, within_s: float = 20.0) -> dict[str, int] | int:
    """Send one span; returns how many were delivered, or what became of it."""
    queue = SpanQueue(settings, Resource({"service.name": "under-test"}))
    provider = LeanTracerProvider(Resource({"service.name": "under-test"}), queue)
    provider.get_tracer("hopwatch.test").start_span("work").end()
    provider.force_flush(int(scale_wait(within_s * 1_000)))
    queue.shutdown(0.2)
    return queue.stats().delivered or queue.stats().dropped


@pytest.mark.parametrize(
    ("variables", "endpoint", "url"),
    [
        ({}, None, "http://127.0.0.1:4318/v1/traces"),
        ({ENDPOINT: "http://c:1/"}, None, "http://c:1/v1/traces"),
        ({ENDPOINT: "http://c:1/base"}, None, "http://c:1/base/v1/traces"),
        ({ENDPOINT: "http://c:1", TRACES_ENDPOINT: "http://t:2/in"}, None, "http://t:2/in"),
        (
            {ENDPOINT: "http://c:1", TRACES_ENDPOINT: "http://t:2/in"},
            "http://said:3",
            "http://said:3/v1/traces",
        ),
    ],
)
def test_the_address(
    variables: dict[str, str], endpoint: str | None, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address for traces is used as it is; `/v1/traces` is added to a base address."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert export_settings(endpoint).url == url


def test_everything_else_that_can_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables for traces win over those for everything; ours are used where nothing is said."""
    said = {
        "OTEL_EXPORTER_OTLP_HEADERS": "a=1,b=2%203",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "7",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "2.5",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": "/ca.pem",
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE": "/client.pem",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/key.pem",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_BSP_MAX_QUEUE_SIZE": "100",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "50",
    }
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert export_settings() == ExportSettings(
        headers={"a": "1", "b": "2 3"},
        timeout_s=2.5,
        compression="gzip",
        certificate="/ca.pem",
        client_certificate="/client.pem",
        client_key="/key.pem",
        every_s=0.2,
        queued_spans=100,
        request_spans=50,
    )


def test_what_makes_no_sense_is_said_and_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A misspelt variable never stops the host."""
    for name in ("OTEL_BSP_SCHEDULE_DELAY", "OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_COMPRESSION"):
        monkeypatch.setenv(name, "soon")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    assert export_settings() == ExportSettings()
    assert len(caplog.records) == 4


def test_a_collector_behind_tls_is_trusted_by_its_certificate() -> None:
    """The certificate decides; without it the collector is not trusted and nothing is sent."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(LOCALHOST)
    with Sink(tls=tls) as sink:
        url = f"{sink.url}/v1/traces"
        assert export_one(ExportSettings(url=url, certificate=str(LOCALHOST))) == 1
        assert export_one(ExportSettings(url=url), GIVES_UP_S) == {"closed": 1}
        assert sink.names() == ["work"]


def test_a_collector_may_ask_who_is_there() -> None:
    """A client certificate is shown where one is asked for."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(LOCALHOST)
    tls.load_verify_locations(LOCALHOST)
    tls.verify_mode = ssl.CERT_REQUIRED
    own = str(LOCALHOST)
    with Sink(tls=tls) as sink:
        url = f"{sink.url}/v1/traces"
        assert export_one(ExportSettings(url=url, certificate=own, client_certificate=own)) == 1
        assert export_one(ExportSettings(url=url, certificate=own), GIVES_UP_S) == {"closed": 1}
        assert sink.names() == ["work"]


def test_a_certificate_that_is_not_there_costs_spans_and_nothing_else() -> None:
    """A misspelt path is an error of the export, not of the host."""
    settings = ExportSettings(url="https://127.0.0.1:9/v1/traces", certificate="/no/such.pem")
    assert export_one(settings, GIVES_UP_S) == {"closed": 1}


def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts elsewhere are reached through it, with its login; those in `no_proxy` are not."""
    with Sink() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://me:s%40fe@"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert export_one(ExportSettings(url="http://collector.example/v1/traces")) == 1
        assert proxy.targets == ["http://collector.example/v1/traces"]
        assert proxy.headers[0]["proxy-authorization"] == "Basic bWU6c0BmZQ=="
        assert proxy.headers[0]["host"] == "collector.example"
        with Sink() as near:
            assert export_one(ExportSettings(url=f"{near.url}/v1/traces")) == 1
            assert near.targets == ["/v1/traces"]


def test_pauses_grow_at_random_and_never_undercut_what_was_asked() -> None:
    """Full jitter up to half a minute, on top of the collector's own wish, which is bounded too."""
    for attempt, longest in [(0, 0.5), (1, 1.0), (4, 8.0), (50, 30.0)]:
        drawn = [pause(attempt, 0.0) for _ in range(200)]
        assert 0.0 <= min(drawn) < longest / 4
        assert longest / 2 < max(drawn) <= longest
    assert 7.0 <= pause(0, 7.0) <= 7.5
    assert pause(0, 1e9) < 100
