"""Errors are problems, tell what would help, and tell nothing of our insides."""

import asyncio
import threading

import httpx
import pytest

from hopwatch_collector.api.models import Health, Problem
from hopwatch_collector.errors import EngineRefusal, EngineUnavailable, QueryLimit
from hopwatch_demo.patience import scale_wait


def problem_of(response: httpx.Response) -> Problem:
    """The problem in `response`, which must say the same status."""
    assert response.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate_json(response.content)
    assert problem.status == response.status_code
    return problem


async def test_an_unknown_path_is_a_404_problem(client):
    """What is not there is a problem too."""
    problem = problem_of(await client.get("/api/v2/flows"))
    assert (problem.status, problem.type) == (404, "urn:hopwatch:problem:not-found")


@pytest.mark.parametrize("path", ["/api/v1/flows/abc", "/api/v1/messages/a%2Fb/c"])
async def test_an_unknown_id_is_a_404_problem_that_names_it(client, path):
    """The answer says what was not found."""
    problem = problem_of(await client.get(path))
    assert problem.status == 404
    assert "nothing is known of" in problem.detail.lower()


async def test_a_message_may_be_asked_for_by_an_alias_with_slashes(client, answers):
    """Aliases are the application's own text."""
    await client.get("/api/v1/messages/orders/4711")
    assert answers.asked == [("message", "orders/4711")]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_a_wrong_method_is_a_405_problem_that_allows_get(client, method):
    """Nothing can be changed through this API."""
    response = await client.request(method, "/api/v1/flows")
    assert problem_of(response).status == 405
    assert response.headers["allow"] == "GET"


async def test_invalid_parameters_are_listed_one_by_one(client):
    """A client learns of every mistake at once."""
    problem = problem_of(await client.get("/api/v1/flows?limit=1001&since=soon&colour=red&state=odd"))
    assert problem.status == 422
    assert {error.parameter for error in problem.errors or []} == {"limit", "since", "colour", "state"}
    assert "limit" in problem.detail


async def test_an_unforeseen_error_tells_an_id_and_no_more(client, answers, capsys):
    """The reason is in the log, under that id."""
    answers.error = RuntimeError("password=hunter2")
    response = await client.get("/api/v1/lag", headers={"Authorization": "Bearer private"})
    problem = problem_of(response)
    assert problem.status == 500
    assert "hunter2" not in response.text
    assert "Traceback" not in response.text
    logged = "".join(capsys.readouterr())
    assert problem.instance is not None
    assert problem.instance in logged
    assert "hunter2" in logged
    assert "private" not in logged


async def test_a_refusal_of_the_engine_is_ours_to_mend(client, answers):
    """A statement the engine refuses is a mistake of the collector's, whose text may name tables."""
    answers.error = EngineRefusal("Unknown column secret_column")
    response = await client.get("/api/v1/lag")
    assert problem_of(response).status == 500
    assert "secret_column" not in response.text


async def test_an_absent_engine_asks_to_come_again(client, answers):
    """What passes by itself says when to come back."""
    answers.error = EngineUnavailable("connection refused to 10.0.0.7")
    response = await client.get("/api/v1/flows")
    assert problem_of(response).status == 503
    assert int(response.headers["retry-after"]) >= 1
    assert "10.0.0.7" not in response.text


async def test_a_query_over_its_limits_asks_for_less(client, answers):
    """The same question again would fail again."""
    answers.error = QueryLimit("the query took longer than 5 s")
    problem = problem_of(await client.get("/api/v1/topology"))
    assert (problem.status, problem.type) == (422, "urn:hopwatch:problem:query-limit")
    assert "shorter time" in problem.detail


async def test_a_saturated_collector_turns_away_at_once_and_recovers(client, answers):
    """More queries than run and wait are told to come again; the ones inside are answered."""
    answers.hold = threading.Event()
    inside = [asyncio.create_task(client.get("/api/v1/lag")) for _ in range(60)]
    done, _waiting = await asyncio.wait(inside, return_when=asyncio.FIRST_COMPLETED, timeout=scale_wait(20))
    turned_away = done.pop().result()
    assert problem_of(turned_away).type == "urn:hopwatch:problem:saturated"
    assert int(turned_away.headers["retry-after"]) >= 1
    assert (await client.get("/healthz")).status_code == 200
    answers.hold.set()
    statuses = [response.status_code for response in await asyncio.gather(*inside)]
    assert sorted(set(statuses)) == [200, 503]
    assert (await client.get("/api/v1/lag")).status_code == 200


@pytest.mark.parametrize(
    ("status", "alive", "ready"), [("ok", 200, 200), ("starting", 200, 503), ("failing", 503, 503)]
)
async def test_health_and_readiness_differ_while_starting(serving, status, alive, ready):
    """A collector that starts lives, but is not ready."""

    def check() -> Health:
        return Health(status=status, reason="because", version="1", journal_backlog_bytes=7, engine="e")

    async with serving(check) as client:
        health = await client.get("/healthz")
        assert health.status_code == alive
        assert Health.model_validate_json(health.content) == check()
        assert (await client.get("/readyz")).status_code == ready
