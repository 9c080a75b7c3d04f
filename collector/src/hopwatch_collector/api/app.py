"""The HTTP API put together: routes, their errors, who may read, and its OpenAPI document."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from prometheus_client import disable_created_metrics

from hopwatch_collector.api import problems
from hopwatch_collector.api.access import Guard
from hopwatch_collector.api.exposition import QueryDerived
from hopwatch_collector.api.gate import Gate
from hopwatch_collector.api.live import Broadcast
from hopwatch_collector.api.openapi import describe
from hopwatch_collector.api.ports import ApiSettings, HealthCheck, QueryPort, SelfMetrics
from hopwatch_collector.api.routes import (
    clocks,
    deliveries,
    flows,
    health,
    lag,
    live,
    losses,
    messages,
    metrics,
    search,
    topology,
)
from hopwatch_collector.api.routes.base import Answering


def create_app(
    queries: QueryPort, settings: ApiSettings, self_metrics: SelfMetrics, check: HealthCheck
) -> FastAPI:
    """The API over `queries`, as an ASGI application for one event loop.

    Whoever serves it calls `end_streams(app)` before asking the server to stop: a server waits for open
    answers, and a live stream has no end of its own.
    """
    # Else each series comes with a gauge of its birth, which no query of ours reads.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus-client leaves it untyped
    registry = self_metrics.registry
    gate = Gate(registry)
    answering = Answering(queries, gate)
    broadcast = Broadcast(queries, gate, registry)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        broadcast.close()
        gate.close()

    app = FastAPI(
        title="hopwatch",
        version=version("hopwatch-collector"),
        summary="Where is my message now, who got it, who did not, and why?",
        docs_url=None,  # these pages load their scripts from a third party
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.broadcast = broadcast
    for router in (
        flows.routes(answering),
        messages.routes(answering),
        deliveries.routes(answering),
        lag.routes(answering),
        losses.routes(answering),
        topology.routes(answering),
        clocks.routes(answering),
        search.routes(answering),
        live.routes(answering, broadcast),
        health.routes(check),
        metrics.routes(answering, registry, QueryDerived(registry)),
    ):
        app.include_router(router)
    problems.install(app)
    describe(app, needs_token=bool(settings.read_token))
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(problems.ErrorBoundary)
    return app


def live_streams(app: FastAPI) -> Broadcast:
    """The live streams of `app`, to be told when the engine has something new."""
    broadcast: Broadcast = app.state.broadcast
    return broadcast


def end_streams(app: FastAPI) -> None:
    """End every live stream of `app` and open no more; safe from any thread and more than once."""
    live_streams(app).close()
