-- What processes call themselves. Parameter: resources.
SELECT resource, any(instance) AS instance FROM resources WHERE resource IN (SELECT arrayJoin({resources:Array(UInt64)})) GROUP BY resource
