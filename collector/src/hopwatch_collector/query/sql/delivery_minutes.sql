-- In which minutes of the window how many deliveries lie that match, the latest minutes first: where to look for them.
-- Parameters: since, until (s); verdicts, causes (empty: any); destination, receiver, service (empty: any); top.
SELECT minute, sum(sign) AS deliveries
FROM deliveries
WHERE minute >= toDateTime({since:Int64}, 'UTC') AND minute <= toDateTime({until:Int64}, 'UTC')
    AND (empty({verdicts:Array(String)}) OR has({verdicts:Array(String)}, verdict))
    AND (empty({causes:Array(String)}) OR has({causes:Array(String)}, cause))
    AND ({destination:String} = '' OR destination = {destination:String})
    AND ({receiver:String} = '' OR receiver = {receiver:String})
    AND ({service:String} = '' OR producer = {service:String} OR consumer = {service:String})
GROUP BY minute
HAVING sum(sign) > 0
ORDER BY minute DESC
LIMIT {top:UInt32}
