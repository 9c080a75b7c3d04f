-- Deliveries of messages whose first fact lies in the window, newest first.
-- Parameters besides those of the stages: verdicts, destination, receiver, service (empty: any); top.
-- stage: picked_in_window
-- stage: verdicts
SELECT *
FROM deliveries
WHERE first_at BETWEEN {since:DateTime64(6)} AND {until:DateTime64(6)}
    AND (empty({verdicts:Array(String)}) OR has({verdicts:Array(String)}, verdict))
    AND ({destination:String} = '' OR destination = {destination:String})
    AND ({receiver:String} = '' OR receiver = {receiver:String})
    AND ({service:String} = '' OR producer = {service:String} OR consumer = {service:String})
ORDER BY first_at DESC, message DESC, receiver
LIMIT {top:UInt32}
