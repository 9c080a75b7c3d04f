"""Enough of a ClickHouse server's HTTP interface, over the embedded engine, to run the store's code over HTTP.

No ClickHouse server can be had from PyPI or Debian. This proves statements, settings, parameters, sessions and error
codes over HTTP; it proves nothing of replication, ON CLUSTER, several shards, TLS or authentication.

Told the name of a cluster, it behaves as one of one shard without replicas: tables that spread rows are `remote(…)` of itself,
which the engine runs as it runs Distributed tables.
"""

import gzip
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb
import lz4.frame

_TRANSPORT = {
    "query", "database", "session_id", "session_timeout", "session_check", "query_id", "compress", "decompress", "wait_end_of_query",
    "send_progress_in_http_headers", "http_headers_progress_interval_ms", "enable_http_compression", "client_protocol_version", "role",
    "cancel_http_readonly_queries_on_client_close", "quota_key", "buffer_size",
}  # fmt: skip
_INSERT = re.compile(rb"\s*INSERT INTO (\S+(?: \([^)]*\))?) +FORMAT (\w+)\n", re.IGNORECASE)


_SPREAD = re.compile(
    r"(CREATE TABLE IF NOT EXISTS \w+ ON CLUSTER `\S+`) AS \w+ ENGINE = Distributed\('\S+', (.*)\)$",
    re.DOTALL,
)


def as_one_node(statement: str, cluster: str) -> str:
    """What a cluster of one node would do for a statement."""
    statement = _SPREAD.sub(r"\1 AS remote('127.0.0.1', \2)", statement)
    statement = statement.replace(f" ON CLUSTER `{cluster}`", "")
    statement = statement.replace(f"cluster('{cluster}', system.parts)", "system.parts")
    statement = re.sub(r"Replicated(\w*MergeTree)", r"\1", statement)
    return re.sub(
        r"(?<!non_)replicated_deduplication_window", "non_replicated_deduplication_window", statement
    )


def inflated(body: bytes, encoding: str) -> bytes:
    """A body as it was before the client compressed it."""
    return bytes(decompressors[encoding](body)) if encoding else body


decompressors: dict[str, Callable[[bytes], bytes]] = {
    "lz4": lz4.frame.decompress,
    "gzip": gzip.decompress,
}


class Session:
    """One connection to the engine, as a server keeps one context per session."""

    def __init__(self, path: str) -> None:
        self.connection = chdb.connect(path)
        self.lock = threading.Lock()

    def run(
        self, statement: str, parameters: dict[str, str], settings: dict[str, str], database: str, fmt: str
    ) -> bytes:
        """Run a statement under settings that last as long as it does."""
        with self.lock:
            if database:
                self.connection.query(f"USE `{database}`")
            for name, value in settings.items():
                self.connection.query(f"SET {name} = '{_quoted(value)}'")
            try:
                return bytes(self.connection.query(statement, fmt, params=parameters).bytes() or b"")
            finally:
                for name in settings:
                    self.connection.query(f"SET {name} = DEFAULT")


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


class Handler(BaseHTTPRequestHandler):
    """Answers as a server does, error codes in its header included."""

    protocol_version = "HTTP/1.1"
    sessions: dict[str, Session]
    path_of_engine: str
    cluster: str

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(inflated(self._body(), self.headers.get("Content-Encoding", "")))

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _answer(self, body: bytes) -> None:
        given = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        if self.headers.get("Content-Type", "").startswith("multipart/form-data"):
            given |= _form(self.headers["Content-Type"], body)
            body = b""
        parameters = {name[6:]: value for name, value in given.items() if name.startswith("param_")}
        settings = {
            name: value
            for name, value in given.items()
            if name not in _TRANSPORT and not name.startswith("param_")
        }
        settings.pop("prefer_localhost_replica", None)  # there is no other, and no port to ask ourselves by
        session = self.sessions.setdefault(given.get("session_id", ""), Session(self.path_of_engine))
        fmt = self.headers.get("X-ClickHouse-Format", "TabSeparated")
        try:
            if found := _INSERT.match(body):
                answer = _insert(session, found, body, settings, given.get("database", ""))
            else:
                statement = given.get("query", "") + ("\n" if given.get("query") else "") + body.decode()
                if self.cluster:
                    statement = as_one_node(statement, self.cluster)
                answer = session.run(statement, parameters, settings, given.get("database", ""), fmt)
        except Exception as error:  # noqa: BLE001  # whatever the engine says goes to the client, as a server does it
            code = re.search(r"Code: (\d+)", str(error))
            self._send(500, str(error).encode(), {"X-ClickHouse-Exception-Code": code[1] if code else "1"})
        else:
            self._send(200, answer, {"X-ClickHouse-Format": fmt} if answer else {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {
            "X-ClickHouse-Timezone": "UTC",
            "Content-Length": str(len(body)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _insert(
    session: Session, found: re.Match[bytes], body: bytes, settings: dict[str, str], database: str
) -> bytes:
    with tempfile.NamedTemporaryFile() as payload:
        payload.write(body[found.end() :])
        payload.flush()
        statement = f"INSERT INTO {found[1].decode()} FROM INFILE '{payload.name}' FORMAT {found[2].decode()}"
        return session.run(statement, {}, settings, database, "TabSeparated")


def _form(content_type: str, body: bytes) -> dict[str, str]:
    message = BytesParser().parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    fields: dict[str, str] = {}
    for part in message.get_payload():
        name = part.get_param("name", header="content-disposition")  # type: ignore[union-attr]
        fields[str(name)] = part.get_payload(decode=True).decode()  # type: ignore[union-attr]
    return fields


@contextmanager
def clickhouse(path: str, cluster: str = "") -> Iterator[str]:
    """Serve the engine at `path`, as the only node of `cluster` if that is given; yields the address."""
    sessions: dict[str, Session] = {}
    handler = type(
        "BoundHandler", (Handler,), {"sessions": sessions, "path_of_engine": path, "cluster": cluster}
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        for session in sessions.values():
            session.connection.close()
