-- By table, a number that is another one once somebody wrote into it; merges leave it as it is. Tables without rows are left out. (What
-- is told is of this server: of tables spread over several it would have to be asked of all of them.)
SELECT table, partition_id, max(max_block_number) AS last
FROM system.parts
WHERE active AND database = currentDatabase()
GROUP BY table, partition_id
ORDER BY table, partition_id
