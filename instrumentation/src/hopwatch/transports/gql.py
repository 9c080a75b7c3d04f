"""gql, the GraphQL client: one span per operation asked for, around the call that carries it; one per event that came in."""

from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, TypeVar

from gql.client import AsyncClientSession, SyncClientSession
from graphql import get_operation_ast
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Tracer

from hopwatch.context import attach, get_current
from hopwatch.hooks import hook_for
from hopwatch.instrumentor import PatchingInstrumentor
from hopwatch.operations import Operation, Operations
from hopwatch.wrapping import Args, Kwargs, Patches, argument, guarded

try:
    from gql.transport.common.base import SubscriptionTransportBase
    from gql.transport.common.listener_queue import ListenerQueue
except ImportError:  # gql 3
    from gql.transport.websockets_base import (  # type: ignore[import-not-found,no-redef]
        ListenerQueue,
    )
    from gql.transport.websockets_base import (  # type: ignore[no-redef]
        WebsocketsTransportBase as SubscriptionTransportBase,
    )

T = TypeVar("T")


class GqlInstrumentor(PatchingInstrumentor):
    """Wraps the sessions of a client; batches are not told apart."""

    takes_hooks = True
    library = "gql"
    requires = "gql >= 3.5, < 5"

    def patch(self, patches: Patches, tracer: Tracer) -> None:
        """Put the wrappers around sessions and around the queue that subscriptions are fed from."""
        asked = Asked(Operations(tracer, hook_for(self.library)))
        patches.wrap(SyncClientSession, "_execute", asked.execute_blocking)
        patches.wrap(AsyncClientSession, "_execute", asked.execute)
        patches.wrap(AsyncClientSession, "_subscribe", asked.subscribe)
        patches.wrap(ListenerQueue, "put", asked.arrived)
        patches.wrap(SubscriptionTransportBase, "connect", connect)


async def connect(wrapped: Callable[..., Awaitable[T]], transport: Any, args: Args, kwargs: Kwargs) -> T:
    """Let a caller go on in the context from before: what a transport is told on connecting is its own affair."""
    before = get_current()
    try:
        return await wrapped(*args, **kwargs)
    finally:
        if get_current() is not before:
            attach(before)


class Asked:
    """The wrappers around what a client asks for."""

    WAITING: Final = 10_000
    """Events between their arrival and their subscriber whose context is kept."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._arrived: OrderedDict[int, Context] = OrderedDict()

    def execute_blocking(self, wrapped: Callable[..., T], session: Any, args: Args, kwargs: Kwargs) -> T:
        """Record an operation that is waited for."""
        operation = self._begin(args, kwargs)
        if operation is None:
            return wrapped(*args, **kwargs)
        result = operation.run(wrapped, *args, **kwargs)
        operation.end(result)
        return result

    async def execute(
        self, wrapped: Callable[..., Awaitable[T]], session: Any, args: Args, kwargs: Kwargs
    ) -> T:
        """Record an operation that is awaited."""
        operation = self._begin(args, kwargs)
        if operation is None:
            return await wrapped(*args, **kwargs)
        return await operation.finish(wrapped(*args, **kwargs))

    def subscribe(
        self, wrapped: Callable[..., AsyncGenerator[T, None]], session: Any, args: Args, kwargs: Kwargs
    ) -> AsyncGenerator[T, None]:
        """Record every event of a subscription, from its hand-over until the next is asked for."""
        return self._events(wrapped(*args, **kwargs), args, kwargs)

    async def arrived(
        self, wrapped: Callable[..., Awaitable[T]], queue: ListenerQueue, args: Args, kwargs: Kwargs
    ) -> T:
        """Remember what carried an event: it is handed over in another task."""
        self._remember(argument(args, kwargs, 0, "item"))
        return await wrapped(*args, **kwargs)

    async def _events(
        self, events: AsyncGenerator[T, None], args: Args, kwargs: Kwargs
    ) -> AsyncGenerator[T, None]:
        async with aclosing(events):
            async for event in events:
                operation = self._begin(args, kwargs, self._arrived.pop(id(event), None))
                if operation is None:
                    yield event
                    continue
                operation.attach()
                try:
                    yield event
                finally:
                    operation.end(event)
                    operation.detach()

    @guarded
    def _remember(self, item: tuple[str, Any]) -> None:
        _, event = item
        if event is not None:
            self._arrived[id(event)] = otel_context.get_current()
            if len(self._arrived) > self.WAITING:
                self._arrived.popitem(last=False)

    @guarded
    def _begin(self, args: Args, kwargs: Kwargs, context: Context | None = None) -> Operation | None:
        request = argument(args, kwargs, 0, "request") or kwargs.get("document")
        document: Any = getattr(request, "document", request)  # gql 3 is given the document itself
        name = getattr(request, "operation_name", None) or kwargs.get("operation_name")
        return self._operations.begin(get_operation_ast(document, name), context)
