"""Options: arguments before environment before defaults; nonsense is refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from hopwatch_collector.settings import Settings


def test_defaults_need_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without any configuration: loopback, the standard ports, the user's data directory."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    settings = Settings()
    assert (settings.listen, settings.otlp_grpc_port, settings.otlp_http_port, settings.api_port) == (
        "127.0.0.1",
        4317,
        4318,
        4319,
    )
    assert settings.data == tmp_path / "hopwatch"


def test_the_environment_sets_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """HOPWATCH_* sets an option; an argument overrides it; an empty variable is as if unset."""
    monkeypatch.setenv("HOPWATCH_API_PORT", "5000")
    monkeypatch.setenv("HOPWATCH_DEADLINE", "7.5")
    monkeypatch.setenv("HOPWATCH_READ_TOKEN", "")
    settings = Settings(api_port=6000)
    assert (settings.api_port, settings.deadline, settings.read_token) == (6000, 7.5, None)


@pytest.mark.parametrize(
    "options",
    [
        {"api_port": 70000},
        {"otlp_grpc_port": -1},
        {"deadline": 0},
        {"engine_url": "clickhouse"},
        {"engine_url": "tcp://clickhouse:9000"},
        {"engine_url": "http://clickhouse:99999"},
        {"engine_url": "http://["},
        {"engine_url": "http://"},
        {"retention_days": 0},
        {"ingest_token": "with space"},
        {"read_token": "new\nline"},
    ],
)
def test_nonsense_is_refused(options: dict[str, object]) -> None:
    """Values that cannot work are refused at start."""
    with pytest.raises(ValidationError):
        Settings(**options)


def test_tokens_are_not_shown() -> None:
    """Settings may be logged; tokens and passwords may not."""
    assert "secret" not in repr(Settings(engine_url="https://me:secret@clickhouse:8443/hopwatch"))
    assert "secret" not in repr(Settings(ingest_token="secret", read_token="secret"))
