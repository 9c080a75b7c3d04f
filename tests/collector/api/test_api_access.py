"""Who may read."""

import pytest

from hopwatch_collector.addresses import names_this_machine

PATHS = ["/api/v1/flows", "/metrics", "/openapi.json", "/nowhere", "/api/v1/live"]


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Basic c2VjcmV0", "secret", "Bearer", "Bearer sécret"]
)
async def test_without_the_read_token_nothing_is_told(serving, answers, header):
    """Not even whether a path exists."""
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    async with serving(read_token="secret") as client:
        for path in PATHS:
            response = await client.get(path, headers=headers)
            assert response.status_code == 401, path
            assert response.headers["content-type"] == "application/problem+json"
            assert response.headers["www-authenticate"].startswith("Bearer")
    assert not answers.asked


async def test_the_read_token_opens_everything(serving):
    """The scheme's name is not case-sensitive."""
    async with serving(read_token="secret") as client:
        for scheme in ("Bearer", "bearer"):
            answered = await client.get("/metrics", headers={"Authorization": f"{scheme} secret"})
            assert answered.status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_needs_no_token(serving, path):
    """Supervisors have none."""
    async with serving(read_token="secret") as client:
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:4319", "127.0.0.1.evil.example", "10.0.0.1", ""]
)
async def test_a_foreign_host_is_refused_on_open_loopback(client, answers, host):
    """A web page that re-binds its name to 127.0.0.1 reads nothing."""
    response = await client.get("/api/v1/flows", headers={"Host": host})
    assert response.status_code == 421
    assert not answers.asked


async def test_any_host_will_do_with_a_token(serving):
    """A page that re-binds its name has no token to show."""
    async with serving(read_token="secret") as client:
        headers = {"Host": "collector.internal", "Authorization": "Bearer secret"}
        assert (await client.get("/api/v1/flows", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:4319", "localhost.", "127.0.0.1:1", "127.8.8.8", "[::1]:4319", "::1"]
)
def test_names_of_this_machine(host):
    """Loopback in all its spellings."""
    assert names_this_machine(host)


async def test_no_other_origin_may_read(client):
    """There is no CORS: a browser keeps our answers from foreign pages."""
    response = await client.get("/api/v1/flows", headers={"Origin": "https://evil.example"})
    assert not [name for name in response.headers if name.startswith("access-control")]
