-- Tables of ours whose inserts a server acknowledges before they are on its disk.
SELECT name
FROM system.tables
WHERE database = currentDatabase() AND name IN {tables:Array(String)} AND engine LIKE '%MergeTree%'
    AND position(engine_full, 'fsync_after_insert') = 0
ORDER BY name
