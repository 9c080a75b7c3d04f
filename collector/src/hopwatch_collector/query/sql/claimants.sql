-- Which services said that they are these receivers. Parameters: receivers.
SELECT receiver, groupUniqArray(service) AS services
FROM subscriptions
WHERE receiver IN {receivers:Array(String)} AND service != ''
GROUP BY receiver
