"""Texts that are not UTF-8: a single one must not cost a request its other spans.

Protobuf refuses a whole message over one such text. The same bytes are read here with every text taken as bytes, each byte that
is no UTF-8 is replaced by U+FFFD, and the message is written out again. Slow, and done only to what was refused.
"""

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

_FIELD: Final = descriptor_pb2.FieldDescriptorProto


def with_utf8(body: bytes) -> bytes | None:
    """Return a serialized ExportTraceServiceRequest with all texts in UTF-8; None where it is no such message in any case."""
    try:
        request = _Request.FromString(body)
    except DecodeError:
        return None
    _mend(request)
    mended: bytes = request.SerializeToString()
    return mended


def _mend(message: Message) -> None:
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else (value,):
                _mend(inner)
        elif (message.DESCRIPTOR.full_name, field.name) in _TEXTS:
            if field.is_repeated:
                value[:] = [_replaced(text) for text in value]
            else:
                setattr(message, field.name, _replaced(value))


def _replaced(text: bytes) -> bytes:
    return text.decode("utf-8", "replace").encode()


def _texts_as_bytes() -> tuple[Any, frozenset[tuple[str, str]]]:
    """The message class whose texts are bytes, and which of its fields are texts, by message and field."""
    pool = descriptor_pool.DescriptorPool()
    texts: set[tuple[str, str]] = set()

    def loosen(message: descriptor_pb2.DescriptorProto, within: str) -> None:
        name = f"{within}.{message.name}"
        for field in message.field:
            if field.type == _FIELD.TYPE_STRING:
                field.type = _FIELD.TYPE_BYTES
                texts.add((name, field.name))
        for nested in message.nested_type:
            loosen(nested, name)

    def add(file: FileDescriptor) -> None:
        for needed in file.dependencies:
            add(needed)
        described = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(described)
        for message in described.message_type:
            loosen(message, described.package)
        pool.Add(described)

    add(trace_service_pb2.DESCRIPTOR)
    name = trace_service_pb2.ExportTraceServiceRequest.DESCRIPTOR.full_name
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name)), frozenset(texts)


_Request, _TEXTS = _texts_as_bytes()
