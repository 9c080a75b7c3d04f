"""Ports nobody else uses."""

import random
import socket
import threading

# Below the range systems give to outgoing connections, so that no client socket takes a port between
# choosing it and the broker's listening on it.
_RANGE = range(15000, 32000)
_given: set[int] = set()
_lock = threading.Lock()


def free_ports(count: int) -> list[int]:
    """That many loopback ports which are free now and were not given before by this process."""
    with _lock:
        found: list[int] = []
        while len(found) < count:
            port = random.choice(_RANGE)
            if port not in _given and _is_free(port):
                _given.add(port)
                found.append(port)
        return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
