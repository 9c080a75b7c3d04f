-- Receivers whose consumers tell what they receive. Parameters: receivers.
SELECT DISTINCT receiver FROM telling WHERE receiver IN {receivers:Array(String)}
