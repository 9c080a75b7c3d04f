-- Deliveries in some minutes that match, newest first, from behind a cursor on.
-- Parameters: first_minute, last_minute (s); since, until; verdicts, causes (empty: any); destination, receiver, service (empty: any);
-- after_at (s and fraction), after_message (hex), after_receiver: the last row already known, or a moment after all; top.
-- Which rows these are is found by few columns: rows taken back are left out by the sum of signs.
SELECT
-- include: delivery_columns
FROM deliveries
WHERE tenant = '' AND sign = 1 AND (message, receiver, version) IN
(
    SELECT message, receiver, version
    FROM deliveries AS d
    WHERE minute >= toDateTime({first_minute:Int64}, 'UTC') AND minute <= toDateTime({last_minute:Int64}, 'UTC')
        AND d.first_at >= fromUnixTimestamp64Micro({since:Int64}, 'UTC') AND d.first_at <= fromUnixTimestamp64Micro({until:Int64}, 'UTC')
        AND (empty({verdicts:Array(String)}) OR has({verdicts:Array(String)}, verdict))
        AND (empty({causes:Array(String)}) OR has({causes:Array(String)}, cause))
        AND ({destination:String} = '' OR destination = {destination:String})
        AND ({receiver:String} = '' OR receiver = {receiver:String})
        AND ({service:String} = '' OR producer = {service:String} OR consumer = {service:String})
        AND (d.first_at < fromUnixTimestamp64Micro({after_at:Int64}, 'UTC') OR d.first_at = fromUnixTimestamp64Micro({after_at:Int64}, 'UTC')
            AND (message < toFixedString(unhex({after_message:String}), 16)
                OR message = toFixedString(unhex({after_message:String}), 16) AND receiver > {after_receiver:String}))
    GROUP BY message, receiver, version
    HAVING sum(sign) > 0
    ORDER BY any(d.first_at) DESC, message DESC, receiver
    LIMIT {top:UInt32}
)
ORDER BY first_at DESC, message DESC, receiver
LIMIT 1 BY message, receiver
LIMIT {top:UInt32}
