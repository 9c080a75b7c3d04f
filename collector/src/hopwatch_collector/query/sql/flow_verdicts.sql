-- How the deliveries of flows stand. Parameters: flows (hex), since (the first day to look at, s).
SELECT flow, verdict, count() AS deliveries
FROM deliveries FINAL
WHERE flow IN (SELECT toFixedString(unhex(arrayJoin({flows:Array(String)})), 16)) AND sign = 1
    AND day >= toDate(toDateTime({since:Int64}, 'UTC')) - 1
GROUP BY flow, verdict
