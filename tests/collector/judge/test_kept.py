"""What is kept of the store between two looks."""

from collections.abc import Hashable

from hopwatch_collector.judge.kept import Kept


class Tables:
    """Of a store, how often each table was written into."""

    def __init__(self) -> None:
        self.writes = {"commits": 0, "watches": 0}

    def stand(self, table: str) -> Hashable:
        return self.writes[table]


def test_it_is_read_again_once_somebody_wrote() -> None:
    """Into one of the tables it comes from, not into others; and when something else is asked."""
    tables, kept, reads = Tables(), Kept(), []

    def ask(asked: str) -> int:
        return kept.get("heads", tables, ("commits",), asked, lambda: len(reads.append(asked) or reads))

    assert [ask("a"), ask("a")] == [1, 1]
    tables.writes["watches"] += 1
    assert ask("a") == 1
    tables.writes["commits"] += 1
    assert [ask("a"), ask("a"), ask("b")] == [2, 2, 3]


def test_names_asked_for_before_are_asked_for_again() -> None:
    """So that the same is asked from one time to the next; but not without end."""
    kept = Kept()
    assert kept.widened("receivers", ["b"]) == ["b"]
    assert kept.widened("receivers", ["a"]) == ["a", "b"]
    assert kept.widened("receivers", [f"{number}" for number in range(1_000)]) == sorted(
        f"{number}" for number in range(1_000)
    )
