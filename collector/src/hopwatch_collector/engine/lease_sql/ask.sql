-- Ask for jobs, or ask again for those one has (`since` of their first asking). Parameters: jobs, since (ms; 0: now), holder, ttl (ms), number.
INSERT INTO leases (job, holder, since, until, number)
SELECT
    asked.1 AS job, {holder:String} AS holder,
    if(asked.2 = 0, now64(3, 'UTC'), fromUnixTimestamp64Milli(asked.2, 'UTC')) AS since,
    addMilliseconds(now64(3, 'UTC'), {ttl:Int64}) AS until,
    {number:UInt64} AS number
FROM (SELECT arrayJoin(arrayZip({jobs:Array(String)}, {since:Array(Int64)})) AS asked)
