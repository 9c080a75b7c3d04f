-- The engine's clock, in ms.
SELECT toUnixTimestamp64Milli(now64(3, 'UTC')) AS at
