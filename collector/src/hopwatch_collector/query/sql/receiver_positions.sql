-- How receivers stand at their brokers, as last looked at. Parameters: system; receivers.
SELECT
    receiver, destination, partition,
    argMax((p.first, p.end, p.next, p.done, p.waiting, p.in_hand, p.consumers, p.oldest_at, p.published, p.handed, p.acked, p.ttl_ms,
        p.max_length, p.dead_letters, p.state), p.at)::Tuple(first Int64, end Int64, next Int64, done Int64, waiting Int64, in_hand Int64,
        consumers Int64, oldest_at DateTime64(6, 'UTC'), published Int64, handed Int64, acked Int64, ttl_ms Int64, max_length Int64,
        dead_letters UInt8, state String) AS stands,
    max(p.at) AS at
FROM receiver_states AS p
WHERE system = {system:String} AND receiver IN {receivers:Array(String)}
GROUP BY receiver, destination, partition
