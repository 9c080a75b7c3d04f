-- How the deliveries of flows stand. Parameters: flows; messages (that their spans name; hex).
SELECT flow, verdict, sum(sign) AS deliveries
FROM deliveries
WHERE tenant = '' AND message IN (SELECT toFixedString(unhex(arrayJoin({messages:Array(String)})), 16))
    AND flow IN (SELECT toFixedString(unhex(arrayJoin({flows:Array(String)})), 16))
GROUP BY flow, verdict
HAVING sum(sign) > 0
