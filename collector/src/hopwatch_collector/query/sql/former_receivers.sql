-- Who was subscribed to a destination, by that very name, and is no longer, those who left last first. Of subscriptions that last only
-- while somebody is connected those are looked at that were told of in a stretch of time.
-- Parameters: system, destination; since, until; top.
SELECT receiver, max(if(s.unsubscribed_at > s.last_at, s.unsubscribed_at, s.last_at)) AS left_at
FROM
(
    SELECT receiver, resource, max(d.last_at) AS last_at, max(d.unsubscribed_at) AS unsubscribed_at
    FROM durable_subscriptions AS d
    WHERE tenant = '' AND system = {system:String} AND pattern = {destination:String}
    GROUP BY receiver, resource
    UNION ALL
    SELECT receiver, resource, max(b.last_at) AS last_at, max(b.unsubscribed_at) AS unsubscribed_at
    FROM brief_subscriptions AS b
    WHERE day BETWEEN toDate({since:DateTime64(6)}) AND toDate({until:DateTime64(6)})
        AND span_of_time BETWEEN toDateTime({since:DateTime64(6)}, 'UTC') AND toDateTime({until:DateTime64(6)}, 'UTC')
        AND system = {system:String} AND pattern = {destination:String}
    GROUP BY receiver, resource
) AS s
GROUP BY receiver
-- Somebody who left may have others who stay.
HAVING min(s.unsubscribed_at > s.last_at) = 1
ORDER BY left_at DESC, receiver
LIMIT {top:UInt32}
