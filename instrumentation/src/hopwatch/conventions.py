"""Every attribute, header and outcome name hopwatch writes or reads, spelled once.

Names without a `hopwatch.` prefix are OpenTelemetry semantic conventions v1.44.0; ours are what those lack.
The collector imports this module and nothing else of hopwatch, so it imports nothing itself.
"""

from enum import StrEnum
from typing import Final

# --- what travels with a message -------------------------------------------------------------------------

MESSAGE_ID_HEADER: Final = "hopwatch-id"
"""Header or property that carries the message id, a UUIDv7 in its 36-character form, on every transport."""

DEATHS_HEADER: Final = "hopwatch-deaths"
"""AMQP: how often a message had been dead-lettered when an application last published it. A copy sent on by hand
still carries its predecessor's `x-death`, which tells nothing of the copy."""

ATTEMPT_HEADER: Final = "hopwatch-attempt"
"""On a request that a client sends again by itself, under the id it had: which attempt it is, from 2 on."""

GRPC_ATTEMPTS: Final = "grpc-previous-rpc-attempts"
"""gRPC's own word for the same: how many attempts came before."""

ENVELOPE_HEADER: Final = "hopwatch-envelope"
"""WebSocket handshake, both ways: this side puts what travels with a message in front of it, if the other does too."""

TRACESTATE_KEY: Final = "hw"
"""Our member of W3C tracestate; its value is the flow id, 32 lower-case hex digits. Absent where that is the trace id."""

BAGGAGE_KEY_PREFIX: Final = "hopwatch.key."
"""Baggage members with this prefix are business keys set by `hopwatch.tag(...)`."""

# --- what spans carry ------------------------------------------------------------------------------------

MESSAGE_ID: Final = "hopwatch.message.id"
"""UUID (36 characters) of the message this span sent, received or processed."""

FLOW_ID: Final = "hopwatch.flow.id"
"""32 hex digits: the trace id of the root of everything one trigger caused. Absent: the span's own trace id."""

DESTINATION: Final = "hopwatch.destination"
"""Where the message was sent, spelled the same by sender and receiver (conventions spell AMQP's differently).

Kafka: topic. NATS: subject (`_INBOX` for any reply inbox). AMQP: `exchange:routing_key`, or the routing key
alone for the default exchange. gRPC: `package.Service/Method`. HTTP: derived by the collector.
"""

RECEIVER: Final = "hopwatch.receiver"
"""Who is owed its own copy: consumer group, AMQP queue, JetStream consumer as `stream/consumer`, NATS queue
group, or `service:subject` for a plain NATS subscriber."""

BROKER: Final = "hopwatch.broker"
"""Which broker a message, commit or subscription is of, where the client knows: names of topics and queues are unique
within one alone. Kafka: the cluster id. RabbitMQ: `cluster_name/vhost`, with nothing for the virtual host `/`. NATS: the
`server_id` of the connection as of that moment."""

MEMBER: Final = "hopwatch.member"
"""On subscription reports: who of the broker's own list of clients tells this. Kafka: the member id within the group.
RabbitMQ: `hopwatch.instance` of the connection's client properties. NATS: `server_id:client_id`."""

LEDGER: Final = "hopwatch.ledger"
"""On subscription reports: a `Ledger`, what this process tells of its messages."""

LEDGER_RATIO: Final = "hopwatch.ledger.ratio"
"""On subscription reports, where a sampler decides by a ratio: which share of the traces that begin here it takes."""

ATTEMPT: Final = "hopwatch.attempt"
"""Which handing-over of the message to this receiver this is: 1 for the first."""

PUBLISH_OUTCOME: Final = "hopwatch.publish.outcome"
"""A `PublishOutcome`, on send spans."""

SETTLE_OUTCOME: Final = "hopwatch.settle.outcome"
"""A `SettleOutcome`, on process and settle spans."""

REASON: Final = "hopwatch.reason"
"""Why a publish or settlement ended as it did, in the words of the broker or library."""

PENDING: Final = "hopwatch.pending"
"""Messages that waited for this receiver behind this one when it was handed over (JetStream, Kafka)."""

TTL: Final = "hopwatch.message.ttl"
"""Milliseconds after which the broker may discard the message unread, where its sender set a limit (AMQP `expiration`)."""

STREAM: Final = "hopwatch.stream"
"""JetStream stream the message lies in."""

SEQUENCE: Final = "hopwatch.sequence"
"""JetStream stream sequence of the message."""

KEY_PREFIX: Final = "hopwatch.key."
"""`hopwatch.key.<name>`: a business key, searchable on every hop downstream."""

ALIAS: Final = "hopwatch.alias"
"""String array: ids the application or broker uses for this message (AMQP message_id, Nats-Msg-Id, CloudEvents id)."""

DEAD_LETTER_RECEIVER: Final = "hopwatch.dead_letter.receiver"
"""On the process span of a dead-lettered copy: the receiver that the original was owed to."""

DEAD_LETTER_REASON: Final = "hopwatch.dead_letter.reason"
"""Why it was dead-lettered: rejected, expired, maxlen, delivery_limit (x-death), or the application's words."""

REPORT: Final = "hopwatch.report"
"""A `Report`: this span is not work but news; views leave it out of waterfalls."""

SKIPPED_UNTIL: Final = "hopwatch.skipped.until"
"""On a `skip` report: the offset the receiver reads next; `messaging.kafka.offset` is the one it would have read."""

MESSAGES_SENT: Final = "hopwatch.messages.sent"
"""On a call that streams: how many messages this side sent within it."""

MESSAGES_RECEIVED: Final = "hopwatch.messages.received"
"""On a call that streams: how many messages this side received within it."""

CALL_HALF: Final = "hopwatch.call.half"
"""On an `open` report about a call: a `CallHalf`."""

CALL_STREAMING: Final = "hopwatch.call.streaming"
"""On an `open` report about a call: true where its answer, or its stream of messages, has begun and goes on."""

LOST_PREFIX: Final = "hopwatch.lost."
"""On a `losses` report: `hopwatch.lost.<reason>`, how many spans this process lost for that reason since it began."""

LOSSES_ID: Final = "hopwatch.losses.id"
"""On a `losses` report: whose counts these are, an id of the exporter's own that begins anew with every process."""

ANYBODY: Final = "*"
"""On a `subscribe` report, as the receiver: this process cannot tell what it receives of that system's messages, as whomever."""

SUBSCRIPTION_PATTERN: Final = "hopwatch.subscription.pattern"
"""Destination pattern a receiver is entitled to, in the broker's own wildcards (NATS `*` `>`, AMQP `*` `#`)."""

SUBSCRIPTION_DURABLE: Final = "hopwatch.subscription.durable"
"""True where the broker keeps messages for the receiver while nobody is connected (queue, group, durable)."""

# --- OpenTelemetry messaging conventions in force --------------------------------------------------------

MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION_NAME: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGING_DESTINATION_NAME: Final = "messaging.destination.name"
MESSAGING_DESTINATION_TEMPLATE: Final = "messaging.destination.template"
MESSAGING_DESTINATION_TEMPORARY: Final = "messaging.destination.temporary"
MESSAGING_DESTINATION_ANONYMOUS: Final = "messaging.destination.anonymous"
MESSAGING_DESTINATION_PARTITION_ID: Final = "messaging.destination.partition.id"
MESSAGING_DESTINATION_SUBSCRIPTION_NAME: Final = "messaging.destination.subscription.name"
MESSAGING_CONSUMER_GROUP_NAME: Final = "messaging.consumer.group.name"
MESSAGING_CLIENT_ID: Final = "messaging.client.id"
MESSAGING_MESSAGE_ID: Final = "messaging.message.id"
MESSAGING_CONVERSATION_ID: Final = "messaging.message.conversation_id"
MESSAGING_BODY_SIZE: Final = "messaging.message.body.size"
MESSAGING_BATCH_COUNT: Final = "messaging.batch.message_count"
KAFKA_OFFSET: Final = "messaging.kafka.offset"
KAFKA_MESSAGE_KEY: Final = "messaging.kafka.message.key"
KAFKA_TOMBSTONE: Final = "messaging.kafka.message.tombstone"
RABBITMQ_ROUTING_KEY: Final = "messaging.rabbitmq.destination.routing_key"
RABBITMQ_DELIVERY_TAG: Final = "messaging.rabbitmq.message.delivery_tag"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"

# --- OpenTelemetry conventions of calls in force -----------------------------------------------------------

HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
URL_PATH: Final = "url.path"
URL_SCHEME: Final = "url.scheme"
CLIENT_ADDRESS: Final = "client.address"
GRAPHQL_NAME: Final = "graphql.operation.name"
GRAPHQL_TYPE: Final = "graphql.operation.type"
GRAPHQL_DOCUMENT: Final = "graphql.document"
GRAPHQL_ERRORS: Final = "hopwatch.graphql.errors"
"""On a GraphQL operation: how many of its fields failed; the first few are events of the span, with their paths."""

GRAPHQL_ERROR_PATH: Final = "hopwatch.graphql.error.path"
"""Where in the answer a field failed: names and list positions, separated by dots."""

URL_FULL: Final = "url.full"
WEBSOCKET_CLOSE_CODE: Final = "websocket.close.code"
"""No convention exists. On the span that a connection's end leaves behind: 1000 is a normal one, 1006 none at all."""
RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS: Final = "rpc.response.status_code"


METRIC_SENT_MESSAGES: Final = "messaging.client.sent.messages"
METRIC_CONSUMED_MESSAGES: Final = "messaging.client.consumed.messages"
METRIC_OPERATION_DURATION: Final = "messaging.client.operation.duration"
METRIC_PROCESS_DURATION: Final = "messaging.process.duration"
METRIC_HTTP_SERVER: Final = "http.server.request.duration"
METRIC_HTTP_ACTIVE: Final = "http.server.active_requests"
METRIC_RPC_SERVER: Final = "rpc.server.call.duration"
METRIC_RPC_CLIENT: Final = "rpc.client.call.duration"

# --- names of conventions v1.24, written too where OTEL_SEMCONV_STABILITY_OPT_IN says messaging/dup --------

OLD_OPERATION: Final = "messaging.operation"
"""Its values: `publish`, `receive`, `process`, `settle`."""
OLD_CLIENT_ID: Final = "messaging.client_id"
OLD_KAFKA_OFFSET: Final = "messaging.kafka.message.offset"
OLD_KAFKA_PARTITION: Final = "messaging.kafka.destination.partition"
OLD_KAFKA_GROUP: Final = "messaging.kafka.consumer.group"


class System(StrEnum):
    """Values of `messaging.system`. NATS has no enum value in the conventions yet; `nats` is what all send.

    Nor has a WebSocket, whose messages no broker carries.
    """

    NATS = "nats"
    RABBITMQ = "rabbitmq"
    KAFKA = "kafka"
    WEBSOCKET = "websocket"


class Operation(StrEnum):
    """Values of `messaging.operation.type`."""

    CREATE = "create"
    SEND = "send"
    RECEIVE = "receive"
    PROCESS = "process"
    SETTLE = "settle"


class PublishOutcome(StrEnum):
    """What the sender knows of its message after the send."""

    SENT = "sent"
    """Handed to the network; the protocol offers no confirmation (core NATS, AMQP without confirms)."""
    CONFIRMED = "confirmed"
    """The broker took it: Basic.Ack, RecordMetadata, PubAck."""
    DUPLICATE = "duplicate"
    """The broker already had it and dropped this copy (PubAck.duplicate)."""
    RETURNED = "returned"
    """Nowhere to route it: Basic.Return, no responders, no stream, connection refused."""
    REFUSED = "refused"
    """The broker or library said no: Basic.Nack, an error answer, message too large."""
    UNCONFIRMED = "unconfirmed"
    """No answer: timeout, connection cut, cancelled before the confirmation."""


class SettleOutcome(StrEnum):
    """How a receiver ended an attempt."""

    ACK = "ack"
    NACK = "nack"
    """Given back to be delivered again: JetStream nak."""
    REQUEUE = "requeue"
    """Given back to the queue: Basic.Nack or Basic.Reject with requeue."""
    REJECT = "reject"
    """Refused for good: Basic.Nack or Basic.Reject without requeue."""
    TERM = "term"
    """Refused for good: JetStream term."""
    COMMIT = "commit"
    """Kafka: on settle spans, with the committed offset (the next one to read) as `messaging.kafka.offset`."""
    AUTO = "auto"
    """The protocol needs no acknowledgement: core NATS, AMQP no_ack, JetStream ack policy none."""
    NONE = "none"
    """The attempt ended and nothing was settled (Kafka before its commit, a handler that forgot to ack)."""


class Ending(StrEnum):
    """Why an attempt ended of which nobody showed that its processing did: the beginning of its reason, where nothing settled it.

    Of several words about one attempt the collector keeps the greatest: these are in the order of how much they say.
    """

    DROPPED = "dropped by its client"
    """More was pending than the subscription may hold, and nobody gives it again."""
    UNREAD = "fetched in a batch and not begun"
    """The loop over the batch was left before it, or what handles the batch failed before it."""
    HELD = "handed on within its process"
    """Its loop came back for more, or its callback returned, while something else in the process still had it."""
    LEFT = "its loop was left at it"
    """Not by `break` or `return`: by an exception, which was caught elsewhere, or by a loop around it that was left."""
    LATE = "worked on after it was handed on"
    """Somebody showed all the same how its processing ended: with `processing()`."""


NOTHING_DUE: Final = "; no acknowledgement is due"
"""After an `Ending`, where the protocol asks for none: nothing more will be told."""


SENT_AGAIN: Final = "sent again as "
"""The beginning of a send's reason that was not answered: the id under which its sender tried again follows."""


class Ledger(StrEnum):
    """How much of its messages a process tells."""

    WHOLE = "whole"
    """All of it, whatever a sampler says: silence means that nothing happened."""
    PARENT = "parent"
    """All but what belongs to traces that were not sampled where they began."""
    SAMPLED = "sampled"
    """What a sampler picks."""


class CallHalf(StrEnum):
    """Which side of a call an `open` report is about."""

    CALL = "call"
    """The caller waits for the answer."""
    SERVE = "serve"
    """The callee is answering."""


class Report(StrEnum):
    """Kinds of zero-length spans that are news rather than work."""

    OPEN = "open"
    """A process hop or call still in progress after one second; carries its own attributes; its parent is the hop."""
    SUBSCRIBE = "subscribe"
    """A receiver is entitled to a destination pattern from now on; repeated every 15 s while it lasts."""
    UNSUBSCRIBE = "unsubscribe"
    """It no longer is."""
    SKIP = "skip"
    """A receiver was moved: forward, past messages it had not read, or back to earlier ones (a Kafka seek)."""
    LOSSES = "losses"
    """Spans were lost before they reached the collector; covers the time from the oldest of them to the report."""
