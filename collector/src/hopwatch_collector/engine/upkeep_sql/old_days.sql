-- Days that are older than the retention, by the engine's clock, and which of these tables have them. Differences rather than
-- limits: a Date has no days before 1970, and one that is taken too far back comes round again from the year 2149.
SELECT partition AS day, arraySort(groupUniqArray(table)) AS tables, toString(toDate(now('UTC'))) AS today
FROM {{parts}}
WHERE database = currentDatabase() AND active AND table IN {tables:Array(String)}
    AND dateDiff('day', toDateOrNull(partition), toDate(now('UTC'))) > {retention_days:Int64}
GROUP BY partition
ORDER BY partition
