-- Who asked for which job and has not let it lapse, the first to have asked first. Times in ms.
SELECT job, holder, toUnixTimestamp64Milli(argMax(l.since, l.number)) AS since
FROM leases AS l
GROUP BY job, holder
HAVING argMax(l.until, l.number) > now64(3, 'UTC')
ORDER BY since, holder
