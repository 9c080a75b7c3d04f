"""The embedded engine, shared by the tests of this folder."""

from ledger_support import engine, store

__all__ = ["engine", "store"]
