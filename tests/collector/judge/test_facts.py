"""Facts as the judge reads them: what the engine would make of rows some time, at once."""

import polars as pl
from ledger_support import opened, processed, sent, take

from hopwatch_collector.engine import Store
from hopwatch_collector.judge.facts import folded
from hopwatch_collector.judge.frames import FACT_KEY, ROWS_OF_FACTS, shaped


def facts(store: Store) -> list[dict[str, object]]:
    """Those of all messages, in an order of their own."""
    with store.judging() as session:
        session.pick(
            [row[0] for row in store._writer.query("SELECT DISTINCT message FROM ledger").result_rows]
        )
        found = folded(shaped(session.frame("facts", {}), ROWS_OF_FACTS))
    return found.with_columns(pl.col("keys").list.sort()).sort(FACT_KEY).to_dicts()


def test_several_rows_of_one_hop_are_one_fact(store: Store) -> None:
    """Before the engine merged the parts they lie in they say the same as afterwards, each told by what any row says of it."""
    first, second = sent(keys={"order": "1"}), sent("prices", "nats", keys={"order": "2"})
    hop = processed(first, "billing", start=1.0, settle="ack")
    for told in (first, second, opened(hop), hop, first, opened(hop)):
        take(store, told)
    rows = store._writer.query("SELECT count() FROM ledger").result_rows[0][0]
    before = facts(store)
    store._writer.command("OPTIMIZE TABLE ledger FINAL")
    assert before == facts(store)
    assert len(before) == 3 < rows
    assert [fact["settle"] for fact in before if fact["receiver"] == "billing"] == [8]
