-- The processes that read the clocks of the hosts named. Parameters: hosts, top.
SELECT resource, host FROM hosts WHERE host IN {hosts:Array(String)} ORDER BY resource LIMIT {top:UInt32}
