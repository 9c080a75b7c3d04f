-- Tables and views in our database that no migration has made.
SELECT name
FROM system.tables
WHERE database = currentDatabase() AND NOT is_temporary AND name NOT IN {ours:Array(String)}
ORDER BY name
