"""Which broker each side means: what clients and witnesses tell of it is brought to one name, so that evidence of one broker meets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import polars as pl

UNTOLD: Final = ""
"""The broker of whoever does not tell which one it means."""
SYSTEMS: Final = ("kafka", "nats", "rabbitmq")

_NAMED_BY_IDENTITY: Final = frozenset({"kafka", "rabbitmq"})
"""What clients of these tell is of the whole broker; a NATS client tells of one server only, which may be linked to any other."""


@dataclass(frozen=True, slots=True)
class Brokers:
    """What is known of brokers. Where only one of a kind is, whoever does not tell means that one."""

    names: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """By system and what is told of it: the broker's name, of several the one it was given last."""
    only: Mapping[str, str] = field(default_factory=dict)
    """By system: the one broker that is known."""
    several: frozenset[str] = frozenset()
    """Systems of which more than one broker is known."""
    watched: frozenset[tuple[str, str]] = frozenset()
    """System and name of those that a witness has seen."""

    @classmethod
    def of(cls, told: pl.DataFrame) -> "Brokers":
        """Return what rows (frames.BROKERS) say, the newest names last."""
        identities = {(system, identity) for system, identity, _ in told.iter_rows()}
        names = {(system, identity): name for system, identity, name in told.iter_rows() if name}
        seen = frozenset((system, name) for (system, _), name in names.items())
        names |= {key: key[1] for key in identities if key not in names and key[0] in _NAMED_BY_IDENTITY}
        by_system: dict[str, set[str]] = {}
        for (system, _), name in names.items():
            by_system.setdefault(system, set()).add(name)
        return cls(
            names,
            {system: next(iter(found)) for system, found in by_system.items() if len(found) == 1},
            frozenset(system for system, found in by_system.items() if len(found) > 1),
            seen,
        )

    def name_of(self, system: str, told: str) -> str:
        """Return the name of the broker that somebody means who tells this of it; UNTOLD: it may be any."""
        return self.names.get((system, told), UNTOLD) or self.only.get(system, UNTOLD)

    def named(self, frame: pl.DataFrame, system: str = "") -> pl.DataFrame:
        """Return rows whose column `broker` is what was told with the broker's name there; `system`: of all rows, if they have none."""
        if frame.is_empty():
            return frame
        of = pl.lit(system) if system else pl.col("system")
        told = frame.select(of.alias("system"), "broker").unique()
        names = [self.name_of(*row) for row in told.iter_rows()]
        if len(told) == 1:
            return frame.with_columns(broker=pl.lit(names[0]))
        known = told.with_columns(name=pl.Series(names, dtype=pl.String))
        return (
            frame.with_columns(of.alias("system"))
            .join(known, on=["system", "broker"], how="left", maintain_order="left")
            .with_columns(broker="name")
            .select(frame.columns)
        )
