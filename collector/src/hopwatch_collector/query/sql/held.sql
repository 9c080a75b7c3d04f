-- Stage: what brokers hold for the receivers in `pairs`, as last looked at, into `held`.
-- Parameters: clock_processes, clock_us and clock_slack (whose clocks are off, by how much, and the most seconds of them).
-- stage: looks
-- from: positions, moves
CREATE OR REPLACE TEMPORARY TABLE held ENGINE = Memory AS
SELECT
    system, destination, receiver, partition,
    argMax(last, to_at) AS p,
    -- For every place where the log once began: how far the receiver had read by then. And for every offset from which on
    -- all that JetStream said of single messages was heard (none: the greatest there is): how far it had settled by then.
    groupArray((first, least_next, if(heard_from < 0, 9223372036854775807, heard_from), most_done)) AS begins,
    -- A queue may have been deleted and be there again, with other messages.
    max(left_at) AS gone_at,
    argMaxIf(last, to_at, last.state != 'gone') AS p_there,
    -- Once is enough: what came in uncounted then is still there, or dropped.
    max(fed) AS fed,
    CAST(receiver IN (SELECT receiver FROM telling), 'UInt8') AS tells,
    -- Where it was moved by its consumer, the latest move first: (time, from, to).
    any(moves) AS moves
FROM
(
    SELECT
        system, destination, receiver, partition, first, heard_from, max(p.done) AS most_done,
        max(p.at) AS to_at,
        maxIf(p.at, p.state = 'gone') AS left_at,
        min(p.next) AS least_next,
        max(p.uncounted) AS fed,
        argMax((p.at, p.first, p.next, p.done, p.waiting, p.in_hand, p.published, p.handed, p.acked, p.ttl_ms, p.max_length, p.dead_letters,
            p.state), p.at)::Tuple(at DateTime64(6, 'UTC'), first Int64, next Int64, done Int64, waiting Int64, in_hand Int64, published Int64,
            handed Int64, acked Int64, ttl_ms Int64, max_length Int64, dead_letters UInt8, state String) AS last
    FROM looks AS p
    GROUP BY system, destination, receiver, partition, first, heard_from
) AS h
FULL JOIN
(
    SELECT
        'kafka' AS system, destination, receiver, partition,
        arrayMap(m -> (fromUnixTimestamp64Micro(-m.1, 'UTC'), m.2, m.3), groupArraySorted(64)((
            transform(m.resource, {clock_processes:Array(UInt64)}, {clock_us:Array(Int64)}, toInt64(0)) - toUnixTimestamp64Micro(m.at),
            m.offset, m.until))) AS moves
    FROM moves AS m
    WHERE receiver IN (SELECT receiver FROM pairs)
        AND at >= (SELECT min(first_at) FROM pairs) - toIntervalSecond(60 + {clock_slack:UInt32})
        AND day >= toDate((SELECT min(first_at) FROM pairs) - toIntervalSecond(60 + {clock_slack:UInt32}))
    GROUP BY destination, receiver, partition
) AS m USING (system, destination, receiver, partition)
GROUP BY system, destination, receiver, partition
