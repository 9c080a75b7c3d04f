"""Clocks measured from causality: what the engine makes of hops, and the interval each host's clock lies in."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from clock_support import ago, call, message
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from ledger_support import (
    S,
    opened,
    processed,
    sent,
    subscribed,
    take,
)

from hopwatch_collector.engine import OUR_HOST, QueryLimit, Row, Store
from hopwatch_collector.query import skew
from hopwatch_collector.query.clocks import BACK_S, NOTHING, ClockReader, Clocks
from hopwatch_collector.query.skew import MAX_UNCERTAINTY_US, Contradiction, Offset, Pair, fold

HOSTS = ("a", "b", "c", "d")


def measured(store: Store, *spans: S) -> Clocks:
    """The clocks, once these spans have come in."""
    if spans:
        take(store, *spans)
    store._upkeep.pair_clocks()
    return ClockReader(store).around()


def group_of(told: Sequence[Pair], reference: str) -> frozenset[str]:
    """The clocks that bound the reference's, and it theirs."""
    return next(group for group in skew._groups(skew._graph(told, OUR_HOST)) if reference in group)


def check(
    told: Sequence[Pair], reference: str, found: Mapping[str, Offset], true: Mapping[str, float]
) -> None:
    """No interval excludes the truth: against the collector's clock, or, where nothing bounds that from both sides, among
    the clocks that bound the one taken to be right."""
    among = group_of(told, reference)
    for host, offset in found.items():
        if reference == OUR_HOST:
            assert within(offset, true[host]), (host, offset)
        elif host in among:
            against = true[reference] - found[reference].us
            assert within(offset, true[host] - against), (host, offset, reference)


def within(offset: Offset, us: float) -> bool:
    """Whether a true offset lies in the interval."""
    return (offset.lower_us is None or offset.lower_us <= us) and (
        offset.upper_us is None or us <= offset.upper_us
    )


@dataclass(frozen=True, slots=True)
class Hop:
    """What really happened."""

    source: str
    target: str
    ago: float
    latency: float
    took: float | None
    """Seconds the callee takes; None: no call."""

    def spans(self, now: float, off: dict[str, float]) -> tuple[S, S]:
        start = now - self.ago
        if self.took is None:
            return message(self.source, self.target, start, self.latency, off)
        return call(self.source, self.target, start, self.latency, self.took, off)


seconds = st.floats(0.0, 4.0).map(lambda value: round(value, 6))
hops = st.builds(
    Hop, source=st.sampled_from(HOSTS), target=st.sampled_from(HOSTS), ago=st.floats(20.0, 50.0), latency=seconds,
    took=st.none() | seconds,
).filter(lambda hop: hop.source != hop.target)  # fmt: skip
offsets = st.fixed_dictionaries(
    {host: st.floats(-3600.0, 3600.0).map(lambda value: round(value, 6)) for host in HOSTS}
)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(off=offsets, happened=st.lists(hops, min_size=1, max_size=10))
def test_the_true_offset_is_in_the_interval(store: Store, off: dict[str, float], happened: list[Hop]) -> None:
    """Whatever the clocks and latencies are: no interval excludes the truth, and corrected by the estimates no hop goes back in time."""
    for table in ("ledger", "resources", "durable_subscriptions", "brief_subscriptions", "clock_pairs"):
        store._writer.command(f"TRUNCATE TABLE {table}")
    now = ago(0)
    pairs = [hop.spans(now, off) for hop in happened]
    known = measured(store, *(span for pair in pairs for span in pair))
    true_us = {OUR_HOST: 0.0} | {host: seconds * 1e6 for host, seconds in off.items()}
    assert not known.left_out
    assert set(known.offsets) >= {hop.source for hop in happened}
    told = ClockReader(store)._pairs(datetime.now(UTC), BACK_S[0])
    check(told, known.reference, known.offsets, true_us)
    for sender, receiver in pairs:
        ends = known.offsets[sender.host], known.offsets[receiver.host]
        if not {sender.host, receiver.host} <= group_of(told, known.reference):
            continue
        if all((end.uncertainty_us or 0) <= MAX_UNCERTAINTY_US for end in ends):
            allowed_s = 0.01  # that clocks may drift meanwhile
            assert receiver.start - ends[1].us / 1e6 >= sender.start - ends[0].us / 1e6 - allowed_s


def pair(source: str, target: str, us: int, hops: int = 1) -> Pair:
    return Pair(source, target, us, hops, datetime(2026, 1, 1, tzinfo=UTC))


graphs = st.lists(
    st.tuples(st.sampled_from(HOSTS), st.sampled_from((*HOSTS, OUR_HOST)), st.integers(0, 3_000_000)).filter(
        lambda edge: edge[0] != edge[1]
    ),
    max_size=14,
    unique_by=lambda edge: edge[:2],
)
true_offsets = st.fixed_dictionaries(
    {host: st.integers(-(10**10), 10**10) for host in HOSTS} | {OUR_HOST: st.just(0)}
)


@settings(max_examples=200, deadline=None, phases=set(Phase) - {Phase.shrink})
@given(edges=graphs, true=true_offsets)
def test_folding_keeps_the_truth(edges: list[tuple[str, str, int]], true: dict[str, int]) -> None:
    """Over any number of third hosts, with every direction missing somewhere."""
    told = [pair(a, b, latency + true[b] - true[a]) for a, b, latency in edges]
    reference, found = fold(told, OUR_HOST)
    check(told, reference, found, true)
    bound = group_of(told, reference)
    for one in told:
        a, b = found[one.from_host], found[one.to_host]
        narrow = max(a.uncertainty_us or 0, b.uncertainty_us or 0) <= MAX_UNCERTAINTY_US
        if narrow and {one.from_host, one.to_host} <= bound:
            assert one.seemed_us - b.us + a.us >= -1  # halves are rounded


def test_a_call_bounds_both_sides(store: Store) -> None:
    """The callee began between question and answer; the estimate is off by no more than half of that."""
    known = measured(store, *call("a", "b", ago(3), 0.02, 0.01, {"b": 300.0}))
    b = known.offsets["b"]
    assert known.reference == "a"
    assert b.uncertainty_us is not None
    assert 25_000 <= b.uncertainty_us < 40_000
    assert abs(b.us - 300e6) < 30_000
    assert abs(known.correction_us("b") - 300e6) < 30_000
    assert known.correction_us("a") == 0


def test_one_direction_proves_only_the_impossible(store: Store) -> None:
    """A message that seems to take five minutes may have; one received before it was sent cannot."""
    known = measured(store, *message("a", "b", ago(3), 1.0, {"a": -300.0}))
    assert known.skewed == []
    known = measured(store, *message("c", "b", ago(3), 1.0, {"c": 300.0}))
    assert known.skewed == ["c"]
    assert 296e6 < known.correction_us("c") <= 300e6


def test_third_hosts_pass_it_on(store: Store) -> None:
    """Hosts that never meet are compared over one that both talk to, with both uncertainties."""
    off = {"b": -5.0, "c": 7.0}
    known = measured(
        store, *call("a", "b", ago(3), 0.01, 0.01, off), *call("b", "c", ago(2), 0.01, 0.01, off),
        *call("a", "d", ago(2), 0.01, 0.01, off),
    )  # fmt: skip
    uncertain = {host: offset.uncertainty_us or 0 for host, offset in known.offsets.items()}
    assert known.reference in ("a", "d")
    assert uncertain["c"] > uncertain["b"] > 0
    assert abs(known.correction_us("c") - 7e6) < 60_000
    assert abs(known.correction_us("b") + 5e6) < 60_000


def test_the_clock_by_which_spans_come_in_promptly_is_right(store: Store) -> None:
    """Of two clocks that disagree one must be taken to be right: not the one whose spans all come five minutes late."""
    for off in (-300.0, 300.0):
        store._writer.command("TRUNCATE TABLE ledger")
        store._writer.command("TRUNCATE TABLE clock_pairs")
        known = measured(store, *call("a", "b", ago(3), 0.01, 0.01, {"a": off}))
        assert known.skewed == ["a"]
        assert abs(known.correction_us("a") - off * 1e6) < 60_000


def test_services_beside_the_collector_tie_its_clock(store: Store) -> None:
    """The collector's host is a host like others: calls between it and another give both bounds against our clock."""
    known = measured(store, *call(OUR_HOST, "b", ago(3), 0.01, 0.01, {"b": -120.0}))
    assert known.reference == OUR_HOST
    assert abs(known.correction_us("b") + 120e6) < 60_000


def test_spans_from_the_future_tell_on_the_clock(store: Store) -> None:
    """A host that talks to nobody: what comes in before it began proves that its clock is ahead."""
    ahead = replace(sent(start=ago(2) + 300.0), host="alone")
    known = measured(store, ahead, replace(subscribed(start=ago(2) + 60.0), host="subscriber"))
    assert 295e6 < known.correction_us("alone") <= 300e6
    assert 55e6 < known.correction_us("subscriber") <= 60e6
    known = measured(store, *call("a", "b", ago(3), 0.01, 0.01, {}))
    assert known.reference in ("a", "b")
    assert sorted(known.skewed) == ["alone", "subscriber"]


def polls(store: Store) -> Iterable[S]:
    """A receiver of another instrumentation whose span covers the wait for the message."""
    send = sent(start=ago(2), host="a")
    return send, processed(send, start=ago(30), took=29.0, host="b", scope="other")


def ends_late(store: Store) -> Iterable[S]:
    """A callee that goes on after its answer."""
    asks, serves = call("a", "b", ago(10), 0.01, 0.01, {})
    return asks, replace(serves, end=serves.end + 5.0)


def still_open(store: Store) -> Iterable[S]:
    """A callee of which only the report is known that it is still open, which begins a second late."""
    asks, serves = call("a", "b", ago(10), 0.01, 0.01, {})
    return asks, opened(serves, after=1.0).but(hopwatch__call__half="serve")


def gave_up(store: Store) -> Iterable[S]:
    """A caller that gave up before the callee began."""
    asks, serves = call("a", "b", ago(10), 5.0, 0.01, {})
    return replace(asks, end=asks.start + 1.0, status=2, words="timeout"), serves


@pytest.mark.parametrize("tell", [polls, ends_late, still_open, gave_up])
def test_what_causality_does_not_vouch_for_is_left_out(store: Store, tell: type[Iterator[S]]) -> None:
    """Spans that begin before or end after what they are about do not make right clocks wrong."""
    known = measured(store, *tell(store))
    assert not known.left_out
    assert known.skewed == []
    assert all(within(offset, 0.0) for offset in known.offsets.values())


def test_a_few_made_up_times_move_nothing(store: Store) -> None:
    """The least two of many hops are left out."""
    spans = [span for _ in range(40) for span in call("a", "b", ago(3), 0.01, 0.01, {})]
    spans += [span for _ in range(2) for span in message("a", "b", ago(3), 0.0, {"b": -86_000.0})]
    assert measured(store, *spans).skewed == []


DAY = 86_400.0


def prompt(host: str, *, hops: int = 6) -> list[S]:
    """What a host told lately whose clock is right."""
    return [span for number in range(hops) for span in message(host, OUR_HOST, ago(9 - number), 0.01, {})]


@pytest.mark.parametrize("off", [365 * DAY, DAY * 0.9, -0.9 * DAY, -365 * DAY])
@pytest.mark.parametrize("hops", [0, 1, 6])
def test_one_absurd_time_moves_no_clock(store: Store, off: float, hops: int) -> None:
    """A span dated far from when it came says nothing of the clock of its host, were it the first that the host told."""
    send = replace(sent(start=ago(2) + off), host="web-1")
    reads = [processed(send, receiver, start=ago(1), host="worker") for receiver in ("mail", "audit", "log")]
    known = measured(store, send, *reads, *prompt("web-1", hops=hops), *prompt("worker", hops=hops))
    assert known.skewed == []
    assert not known.left_out


@pytest.mark.parametrize("off", [365 * DAY, 0.9 * DAY])
def test_a_batch_that_was_received_at_an_absurd_time_is_one_witness(store: Store, off: float) -> None:
    """Many messages that one moment is told of say no more than one."""
    sends = [replace(sent(start=ago(3)), host="web-1") for _ in range(20)]
    received = ago(2) - off
    reads = [processed(send, start=received, host="worker") for send in sends]
    known = measured(store, *sends, *reads, *prompt("web-1"), *prompt("worker"))
    assert known.skewed == []


def test_two_that_agree_are_believed(store: Store) -> None:
    """A clock that is hours ahead is known for it once a second span says so."""
    ahead = [replace(sent(start=ago(2 + number) + 5 * 3_600.0), host="alone") for number in range(2)]
    assert measured(store, ahead[0]).skewed == []
    assert abs(measured(store, ahead[1]).correction_us("alone") - 5 * 3_600e6) < 60e6


def test_a_clock_that_was_set_is_left_out(store: Store) -> None:
    """Hops that no steady clocks allow: that host is named and not corrected, the others are as before."""
    first = call("a", "b", ago(3), 0.01, 0.01, {})
    others = call("a", "c", ago(3), 0.01, 0.01, {"c": 300.0})
    known = measured(store, *first, *others, *call("a", "b", ago(2), 0.01, 0.01, {"b": 60.0}))
    assert known.left_out == ["b"]
    assert known.skewed == ["c"]


def noted(store: Store, minutes_ago: int, source: str, target: str, us: int) -> None:
    """Upkeep wrote down a pair so many minutes ago."""
    minute = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=minutes_ago)
    row = [minute.date(), minute, source, target, 1, [us], minute]
    store.write(
        "clock_pairs", ["day", "minute", "from_host", "to_host", "hops", "least", "written_at"], [row]
    )


def test_old_evidence_counts_less(store: Store) -> None:
    """Clocks drift: what was seen ten minutes ago is ten minutes of drift less certain; an hour ago is not asked."""
    for source, target in (("a", "b"), ("b", "a")):
        noted(store, 0, source, target, 1_000)
    fresh = ClockReader(store).around().offsets["b"].uncertainty_us
    store._writer.command("TRUNCATE TABLE clock_pairs")
    for source, target in (("a", "b"), ("b", "a")):
        noted(store, 10, source, target, 1_000)
    old = ClockReader(store).around()
    assert fresh is not None
    drift = (old.offsets["b"].uncertainty_us or 0) - fresh
    assert 30 * 540 <= drift <= 30 * 660
    store._writer.command("TRUNCATE TABLE clock_pairs")
    noted(store, 60, "a", "b", 1_000)
    assert set(ClockReader(store).around().offsets) == {OUR_HOST}
    assert set(ClockReader(store).around(datetime.now(UTC) - timedelta(hours=1)).offsets) == {
        "a",
        "b",
        OUR_HOST,
    }


def test_no_answer_fails_for_want_of_clocks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where comparing clocks would take too much, times stay as they were told; who asks for the clocks is told so."""

    def too_much(*_: object) -> list[Row]:
        raise QueryLimit("too much")

    reader = ClockReader(store)
    monkeypatch.setattr(store, "query", too_much)
    assert reader.around() == NOTHING
    with pytest.raises(QueryLimit):
        reader.measured()


def test_a_contradiction_names_its_hosts() -> None:
    """A round trip over third hosts that took less than nothing; who only leads to it is not blamed."""
    told = [pair("a", "b", 10), pair("b", "c", -30), pair("c", "a", 10), pair("d", "a", 0), pair("b", "e", 0)]
    with pytest.raises(Contradiction) as caught:
        fold(told, OUR_HOST)
    assert caught.value.hosts == {"a", "b", "c"}
