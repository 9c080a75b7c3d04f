"""Small file-system helpers that Python's standard library leaves to its callers."""

import ctypes
import os
from pathlib import Path


def write_all(fd: int, data: bytes) -> None:
    """Writes all of `data`; os.write may take less."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def fsync_dir(directory: Path) -> None:
    """Makes creations, renames and removals in `directory` durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_filesystem(directory: Path) -> None:
    """Writes to disk whatever the file system of `directory` still holds in memory (Linux: syncfs)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):  # macOS, BSD
        os.sync()
        return
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(directory))
    finally:
        os.close(fd)
