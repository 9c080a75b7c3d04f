-- Messages known by an alias, those of the latest days first. Parameter: alias.
SELECT message FROM aliases WHERE alias = {alias:String} GROUP BY message ORDER BY max(day) DESC, message DESC LIMIT 1000
