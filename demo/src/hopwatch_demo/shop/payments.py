"""payments: charges customers, over gRPC."""

import asyncio

import grpc

import hopwatch
from hopwatch_demo.shop.payments_pb2 import ChargeReply, ChargeRequest
from hopwatch_demo.shop.service import stop_signal
from hopwatch_demo.shop.settings import Settings
from hopwatch_demo.truth import Act, Record

NAME = "payments"
SERVICE = "hopwatch.demo.Payments"


def handler(record: Record) -> grpc.GenericRpcHandler:
    """Return the service's one method, Charge."""

    async def charge(
        request: ChargeRequest, context: "grpc.aio.ServicerContext[ChargeRequest, ChargeReply]"
    ) -> ChargeReply:
        record.write(Act.RECEIVED, event=request.event, kind="call", receiver=NAME)
        record.write(Act.SETTLED, event=request.event, kind="call", receiver=NAME, how="answered")
        return ChargeReply(accepted=True)

    method = grpc.unary_unary_rpc_method_handler(
        charge,
        request_deserializer=ChargeRequest.FromString,
        response_serializer=ChargeReply.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(SERVICE, {"Charge": method})


async def main() -> None:
    """Serve orders."""
    hopwatch.instrument(service=NAME)
    ended = stop_signal()
    settings = Settings.from_environment()
    record = Record.of_process(settings.records, NAME)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler(record),))
    server.add_insecure_port(settings.payments)
    await server.start()
    record.write(Act.READY)
    await ended.wait()
    await server.stop(grace=1.0)


if __name__ == "__main__":
    asyncio.run(main())
