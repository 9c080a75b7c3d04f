-- Receivers whose consumers tell what they receive. Parameters: receivers.
SELECT DISTINCT system, broker, receiver FROM telling WHERE receiver IN {receivers:Array(String)}
