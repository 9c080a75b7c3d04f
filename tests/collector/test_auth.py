"""Who may come in, and where the collector agrees to listen."""

import pytest

from hopwatch_collector.auth import authorised, is_loopback, require_safe
from hopwatch_collector.errors import SettingsError
from hopwatch_collector.settings import Settings


@pytest.mark.parametrize("header", ["Bearer secret", "bearer secret", b"BEARER secret", "Bearer  secret"])
def test_the_right_token_is_let_in(header) -> None:
    """The scheme's case does not matter, the token's does."""
    assert authorised(header, "secret")


@pytest.mark.parametrize(
    "header",
    [None, "", "secret", "Bearer", "Bearer Secret", "Basic secret", "Bearer secretx", "Bearer s\xe9"],
)
def test_anything_else_is_not(header) -> None:
    """No token, a wrong one, another scheme."""
    assert not authorised(header, "secret")


def test_without_a_token_set_everyone_is_let_in() -> None:
    """Tokens are optional on loopback."""
    assert authorised(None, None)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("", False),
     ("::", False), ("192.0.2.1", False)],
)  # fmt: skip
def test_loopback_is_recognised(host: str, loopback: bool) -> None:
    """Every spelling of this machine counts, and every address others reach does not."""
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("tokens", "named"),
    [
        ({}, ["--ingest-token", "--read-token"]),
        ({"ingest_token": "a"}, ["--read-token"]),
        ({"read_token": "b"}, ["--ingest-token"]),
    ],
)
def test_listening_beyond_loopback_wants_both_tokens(tokens: dict[str, str], named: list[str]) -> None:
    """The refusal names what is missing and what else could be done."""
    with pytest.raises(SettingsError) as refusal:
        require_safe(Settings(listen="0.0.0.0", **tokens))
    text = str(refusal.value).partition("Set both")[0]
    assert [flag for flag in ("--ingest-token", "--read-token") if flag in text] == named
    assert "--allow-insecure" in str(refusal.value)


@pytest.mark.parametrize(
    "options",
    [{"listen": "127.0.0.1"}, {"ingest_token": "a", "read_token": "b"}, {"allow_insecure": True}],
    ids=["loopback", "tokens", "allowed"],
)
def test_what_is_safe_or_allowed_starts(options: dict[str, object]) -> None:
    """Loopback, both tokens, or an explicit yes."""
    require_safe(Settings(**{"listen": "0.0.0.0", **options}))


def test_a_name_that_does_not_resolve_is_refused() -> None:
    """A host nobody knows is an error with its name in it."""
    with pytest.raises(SettingsError, match=r"nowhere\.invalid"):
        is_loopback("nowhere.invalid")
