-- Which tables of migrations there are: one on a single server, two where tables are spread over a cluster.
SELECT name
FROM system.tables
WHERE database = currentDatabase() AND name IN ('migrations', 'migrations_local')
