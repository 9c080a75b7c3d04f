-- When each kind of broker could last be asked, and what stood in the way. Parameter: now.
SELECT system, argMax(broker, w.at) AS broker, maxIf(w.at, ok) AS ok_at, argMax(w.trouble, w.at) AS trouble
FROM watches AS w
WHERE at >= {now:DateTime64(6)} - INTERVAL 1 DAY AND day >= toDate({now:DateTime64(6)}) - 1
GROUP BY system
