-- The message that facts told under an id turned out to be about. Parameter: id (hex of 16 bytes).
SELECT known_as AS message FROM strangers WHERE message = toFixedString(unhex({id:String}), 16) AND known_as != toFixedString('', 16) LIMIT 1
