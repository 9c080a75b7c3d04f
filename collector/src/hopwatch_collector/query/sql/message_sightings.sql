-- What a broker said of one message. Parameters: system; partition; offset.
SELECT receiver, kind, max(s.attempts) AS attempts, min(s.at) AS at, any(s.reason) AS reason
FROM sightings AS s
WHERE system = {system:String} AND partition = {partition:String} AND offset = {offset:Int64}
GROUP BY receiver, kind
