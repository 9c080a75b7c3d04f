"""How far clocks are apart, from causality alone: bounds on pairs of hosts, folded into one interval for each host.

Nothing is received before it was sent. So of every hop from host a to host b, received (by b's clock) minus sent (by a's)
is its latency plus how far b is ahead of a, and thus at least the latter. The least of many hops bounds the difference
from one side; hops the other way, replies among them, bound it from the other. Halfway between is the usual estimate,
off by at most half the distance: what NTP does with its four timestamps (RFC 5905, section 8). Jaeger's clock skew
adjuster does the same with one parent and child span at a time.

Such bounds are difference constraints: the best that follows for two hosts without traffic between them is the
shortest path over third ones (Bellman and Ford). A path is as uncertain as all its parts together. Clocks that all stand
at their upper bounds contradict no hop, nor do clocks at their lower ones, so nor do those halfway (the constraints are
convex): of the hops measured none is received before it was sent once all are corrected so.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

MAX_UNCERTAINTY_US: Final = 1_500_000
"""An interval with a greater half (RFC 5905: MAXDIST) is no estimate: then the bound nearest to zero, which is proven, is taken."""

WORTH_US: Final = 10_000
"""Less than this is not worth a word."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The least that hops from one host to another seemed to take."""

    from_host: str
    to_host: str
    seemed_us: int
    hops: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Offset:
    """How far a clock is ahead of the reference, in µs: between two bounds, None where nothing bounds it."""

    lower_us: int | None
    upper_us: int | None

    @property
    def uncertainty_us(self) -> int | None:
        """Half the distance of the bounds; None where one is missing."""
        if self.lower_us is None or self.upper_us is None:
            return None
        return (self.upper_us - self.lower_us + 1) // 2

    @property
    def us(self) -> int:
        """The estimate: halfway where that says something, else what is nearest to zero."""
        half = self.uncertainty_us
        if half is not None and half <= MAX_UNCERTAINTY_US:
            assert self.lower_us is not None  # it has both bounds
            return self.lower_us + half
        if self.lower_us is not None and self.lower_us > 0:
            return self.lower_us
        return min(0, self.upper_us) if self.upper_us is not None else 0

    def moved(self, us: int) -> "Offset":
        """Return the same against another clock that is `us` behind the first."""
        return Offset(
            None if self.lower_us is None else self.lower_us + us,
            None if self.upper_us is None else self.upper_us + us,
        )

    @property
    def proven(self) -> bool:
        """Whether no hop allows the clock to agree with the reference, and by more than is worth a word."""
        off = (self.lower_us is not None and self.lower_us > 0) or (
            self.upper_us is not None and self.upper_us < 0
        )
        return off and abs(self.us) >= WORTH_US


PROMPT_US: Final = 15_000_000
"""Spans come in within so much time after they began, where all goes well and clocks agree: exporters wait for five seconds."""

Graph = Mapping[str, Mapping[str, int]]
"""For each host the hosts that hops lead to, with the least they seemed to take in µs."""


class Contradiction(ValueError):
    """No clocks that go steadily allow for the hops between some hosts: one was set, or two machines bear one name."""

    def __init__(self, hosts: frozenset[str]) -> None:
        super().__init__(f"hops between {', '.join(sorted(hosts))} contradict each other")
        self.hosts = hosts


def consistent(pairs: Sequence[Pair], collector: str) -> tuple[Sequence[Pair], list[str]]:
    """Return the pairs that do not contradict each other, and the hosts left out for it.

    Of hosts in a contradiction the one that deals with the fewest others is left out: the others agree with more.
    """
    left_out: list[str] = []
    while True:
        try:
            fold(pairs, collector)
        except Contradiction as contradiction:
            graph, weight = _graph(pairs, collector), _weights(pairs)
            suspects = contradiction.hosts - {collector}
            least = min(suspects, key=lambda host: (len(graph[host]), weight[host], host))
            left_out.append(least)
            pairs = [pair for pair in pairs if least not in (pair.from_host, pair.to_host)]
        else:
            return pairs, left_out


def fold(pairs: Sequence[Pair], collector: str) -> tuple[str, dict[str, Offset]]:
    """Return the clock that was taken to be right, and how far each host's is ahead of the collector's.

    The collector's own is taken where evidence bounds it from both sides, or bounds no clocks against each other. Else
    one of the largest group of clocks that bound each other, of those by which spans come in promptly the middle one, as
    most clocks are right; it is taken to agree with the collector's as nearly as evidence allows. Raises Contradiction.
    """
    graph = _graph(pairs, collector)
    groups = _groups(graph)
    weight = _weights(pairs)
    largest = max(
        groups, key=lambda group: (collector in group and len(group) > 1, len(group), _sum(weight, group))
    )
    if len(largest) == 1 or collector in largest:
        return collector, _offsets(graph, collector)
    anyone = max(largest, key=lambda host: (weight[host], host))
    offsets, late = _offsets(graph, anyone), _distances(_turned(graph), collector)
    prompt = [host for host in largest if 0 <= late.get(host, -1) <= PROMPT_US]
    by_offset = sorted(prompt or largest, key=lambda host: (offsets[host].us, host))
    right = by_offset[(len(by_offset) - 1) // 2]
    ahead = max(0, -late.get(right, 0))
    among = _offsets(graph, right)  # what is assumed of the collector's clock is not mixed into what is known
    others = _offsets(_tied(graph, collector, right, ahead), collector)
    return right, others | {host: among[host].moved(ahead) for host in largest}


def _sum(weight: Mapping[str, int], group: Iterable[str]) -> int:
    return sum(weight.get(host, 0) for host in group)


def _tied(graph: Graph, collector: str, right: str, ahead: int) -> Graph:
    """Return the graph with what is assumed: that one clock is so far ahead of the collector's, no more and no less."""
    return {
        **graph,
        collector: {**graph[collector], right: ahead},
        right: {**graph[right], collector: -ahead},
    }


def _graph(pairs: Iterable[Pair], collector: str) -> Graph:
    graph: dict[str, dict[str, int]] = {collector: {}}
    for pair in pairs:
        graph.setdefault(pair.from_host, {})[pair.to_host] = pair.seemed_us
        graph.setdefault(pair.to_host, {})
    return graph


def _weights(pairs: Iterable[Pair]) -> Mapping[str, int]:
    weights: dict[str, int] = {}
    for pair in pairs:
        for host in (pair.from_host, pair.to_host):
            weights[host] = weights.get(host, 0) + pair.hops
    return weights


def _offsets(graph: Graph, reference: str) -> dict[str, Offset]:
    above, below = _distances(graph, reference), _distances(_turned(graph), reference)
    return {host: Offset(-below[host] if host in below else None, above.get(host)) for host in graph}


def _distances(graph: Graph, start: str) -> dict[str, int]:
    """Return the shortest path to every host that can be reached, in µs; hops may seem to take less than nothing."""
    best = {start: 0}
    before: dict[str, str] = {}
    changed = {start}
    for _ in range(len(graph) + 1):
        if not changed:
            return best
        moved, changed = changed, set()
        for host in moved:
            for other, us in graph[host].items():
                if best[host] + us < best.get(other, best[host] + us + 1):
                    best[other] = best[host] + us
                    before[other] = host
                    changed.add(other)
    raise Contradiction(_cycle(before, next(iter(changed))))


def _cycle(before: Mapping[str, str], host: str) -> frozenset[str]:
    """Return the hosts of the round trip that took less than nothing, going back from one that it leads to."""
    for _ in before:
        host = before[host]
    round_trip = {host}
    while (host := before[host]) not in round_trip:
        round_trip.add(host)
    return frozenset(round_trip)


def _turned(graph: Graph) -> Graph:
    turned: dict[str, dict[str, int]] = {host: {} for host in graph}
    for host, others in graph.items():
        for other, us in others.items():
            turned[other][host] = us
    return turned


def _groups(graph: Graph) -> list[frozenset[str]]:
    """Return the hosts that can be reached from each other, group by group (Kosaraju)."""
    order: list[str] = []
    seen: set[str] = set()
    for host in graph:
        order += _walk(graph, host, seen)
    back, seen = _turned(graph), set()
    return [frozenset(group) for host in reversed(order) if (group := list(_walk(back, host, seen)))]


def _walk(graph: Graph, start: str, seen: set[str]) -> Iterator[str]:
    """Yield what can be reached and has not been seen, each after all that it leads to."""
    if start in seen:
        return
    seen.add(start)
    stack = [(start, iter(graph[start]))]
    while stack:
        host, others = stack[-1]
        following = next((other for other in others if other not in seen), None)
        if following is None:
            stack.pop()
            yield host
        else:
            seen.add(following)
            stack.append((following, iter(graph[following])))
