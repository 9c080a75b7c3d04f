-- By table, a number that is another one once somebody wrote into it; merges leave it as it is. Tables without rows are left out. Of a
-- cluster, each shard is asked; tables are named as they are stored.
SELECT table, concat(hostName(), ' ', partition_id) AS place, max(max_block_number) AS last
FROM {{parts}}
WHERE active AND database = currentDatabase()
GROUP BY table, place
ORDER BY table, place
