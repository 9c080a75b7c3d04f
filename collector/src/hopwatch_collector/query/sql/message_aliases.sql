-- Other names of a message. Parameters: message (hex).
SELECT DISTINCT alias FROM aliases WHERE message = toFixedString(unhex({message:String}), 16) ORDER BY alias LIMIT 50
