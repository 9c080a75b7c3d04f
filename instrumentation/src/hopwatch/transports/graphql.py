"""graphql-core, and Strawberry, Ariadne and whatever else runs on it: one span per operation, and per event of a subscription."""

from collections.abc import Callable
from typing import Any

from opentelemetry.trace import Tracer

from hopwatch.hooks import hook_for
from hopwatch.instrumentor import PatchingInstrumentor
from hopwatch.operations import Operations
from hopwatch.wrapping import Args, Kwargs, Patches

try:
    from graphql.execution.executor import Executor
except ImportError:  # graphql-core before 3.3
    from graphql.execution.execute import (  # type: ignore[attr-defined,no-redef]
        ExecutionContext as Executor,
    )


class GraphQLInstrumentor(PatchingInstrumentor):
    """Wraps the execution of an operation; parsing and validation come before it and are not recorded."""

    takes_hooks = True
    library = "graphql"
    requires = "graphql-core >= 3.2, < 3.4"

    def patch(self, patches: Patches, tracer: Tracer) -> None:
        """Put the wrapper around the one method that every operation and event is executed by."""
        operations = Operations(tracer, hook_for(self.library))

        def execute(wrapped: Callable[..., Any], executor: Any, args: Args, kwargs: Kwargs) -> Any:
            operation = operations.begin(executor.operation)
            if operation is None:
                return wrapped(*args, **kwargs)
            result = operation.run(wrapped, *args, **kwargs)
            if executor.is_awaitable(result):
                return operation.finish(result)
            operation.end(result)
            return result

        patches.wrap(Executor, "execute_operation", execute)
