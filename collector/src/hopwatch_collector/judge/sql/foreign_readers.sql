-- Who read from where by the word of other instrumentations. Parameters: since, until (s).
SELECT DISTINCT system, broker, destination, receiver
FROM foreign_readers AS f
WHERE f.minute BETWEEN toDateTime({since:Int64}, 'UTC') AND toDateTime({until:Int64}, 'UTC') AND tenant = ''
    AND day BETWEEN toDate(toDateTime({since:Int64}, 'UTC')) - 1 AND toDate(toDateTime({until:Int64}, 'UTC')) + 1
