-- Stage: how long receivers in `pairs` may take where a rule says so, into `deadlines`: the first rule that matches.
-- from: deadline_rules
CREATE OR REPLACE TEMPORARY TABLE deadlines ENGINE = Memory AS
SELECT e.system AS system, e.destination AS destination, e.receiver AS receiver, argMin(r.seconds, r.number) AS seconds
FROM
(
    SELECT *
    FROM deadline_rules FINAL
    WHERE declared_at = (SELECT max(declared_at) FROM deadline_rules) AND number > 0
) AS r
CROSS JOIN (SELECT DISTINCT system, destination, receiver FROM pairs) AS e
WHERE (r.system = '' OR r.system = e.system)
    AND (r.receiver = '' OR match(e.receiver, r.receiver))
    AND (r.destination = '' OR e.destination = r.destination
        OR r.expression != '' AND startsWith(e.destination, r.prefix) AND match(
            if(length(e.destination) = length(r.prefix), '', concat('.', substring(e.destination, length(r.prefix) + 1))), r.expression))
GROUP BY e.system, e.destination, e.receiver
