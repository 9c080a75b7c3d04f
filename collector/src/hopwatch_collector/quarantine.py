"""Requests the engine refuses are set aside here, whole, so that they can be looked at and sent again."""

from pathlib import Path

import structlog

from hopwatch_collector.journal import Stretch
from hopwatch_collector.journal.files import fsync_dir

_log = structlog.get_logger("hopwatch.quarantine")
_MAX_BYTES = 256 << 20


class Quarantine:
    """A directory of `<position>.otlp` files, each one ExportTraceServiceRequest in protobuf.

    To try one again: `curl --data-binary @FILE -H 'Content-Type: application/x-protobuf' …/v1/traces`.
    Bounded: beyond 256 MiB the oldest go, with a line in the log.
    """

    def __init__(self, directory: Path, max_bytes: int = _MAX_BYTES) -> None:
        self._dir = directory
        self._max_bytes = max_bytes

    def keep(self, stretch: Stretch, payload: bytes) -> None:
        """Writes one request durably; the same one again changes nothing. Raises OSError."""
        self._dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._dir / f"{stretch.start:020d}.otlp"
        path.write_bytes(payload)
        fsync_dir(self._dir)
        self._trim(path)

    def _trim(self, newest: Path) -> None:
        files = sorted(self._dir.glob("*.otlp"))
        size = sum(file.stat().st_size for file in files)
        for file in files:
            if size <= self._max_bytes or file == newest:
                return
            size -= file.stat().st_size
            file.unlink()
            _log.error("quarantine full, oldest request dropped", file=str(file))
