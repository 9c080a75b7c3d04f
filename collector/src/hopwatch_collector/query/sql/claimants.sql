-- Which services said that they are these receivers. Parameters: receivers.
SELECT receiver, groupUniqArray(service) AS services
FROM receivers
WHERE receiver IN {receivers:Array(String)} AND service != ''
GROUP BY receiver
