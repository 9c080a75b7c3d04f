-- Which deliveries there are of the messages picked, and by what it is seen whether they changed. (Rows are not merged for it: what was
-- taken back is left out by the sum of signs.)
SELECT message, receiver, version, day, fingerprint
FROM deliveries
WHERE message IN (SELECT message FROM picked)
GROUP BY message, receiver, version, day, fingerprint
HAVING sum(sign) > 0
