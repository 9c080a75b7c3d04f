"""Files that declare something, and the engine to declare it to."""

from collections.abc import Callable
from pathlib import Path

import pytest
from ledger_support import engine, store

__all__ = ["engine", "store"]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file: `write("expects: []", "hopwatch.yaml")`."""

    def file(text: str | bytes, name: str = "hopwatch.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return file
