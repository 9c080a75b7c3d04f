-- Calls and messages from one service to another, and those that failed or were not delivered. Parameters: top.
SELECT
    client, server, if(system IN ('http', 'grpc', 'rpc'), '', 'messaging_system') AS connection_type,
    sum(requests) AS requests,
    sum(failed) AS failed
FROM edges FINAL
GROUP BY client, server, connection_type
ORDER BY requests DESC, client, server
LIMIT {top:UInt32}
