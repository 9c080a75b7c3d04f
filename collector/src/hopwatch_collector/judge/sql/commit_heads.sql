-- The latest commit of groups. Times in µs. Parameters: receivers.
SELECT
    broker, destination, receiver, partition,
    tupleElement(argMaxMerge(c.latest), 'offset') AS offset,
    toUnixTimestamp64Micro(max(c.last_at)) AS at, at AS last_at,
    tupleElement(argMaxMerge(c.latest), 'resource') AS resource
FROM commit_heads AS c
WHERE receiver IN {receivers:Array(String)}
GROUP BY broker, destination, receiver, partition
