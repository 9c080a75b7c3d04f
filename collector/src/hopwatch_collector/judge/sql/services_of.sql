-- Which services some processes are of. Parameter: resources.
SELECT resource, any(service) AS service FROM resources WHERE resource IN {resources:Array(UInt64)} GROUP BY resource
