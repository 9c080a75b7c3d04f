-- What the team declares in its configuration: who is to get what, whatever services and brokers tell, and how long that may
-- take. Written when a collector starts; kept for as long as the store, as a declaration may be older than all days.

-- One row per receiver and pattern for as long as it is declared without a break. What a pattern means is worked out where it
-- is read (expects/patterns.py).
CREATE TABLE IF NOT EXISTS declared
(
    system LowCardinality(String),
    receiver String,
    pattern String,                     -- as it was written
    from_at DateTime64(6, 'UTC'),
    until_at SimpleAggregateFunction(min, DateTime64(6, 'UTC')),    -- 2299: it still is
    prefix String,                      -- what a destination begins with before the words that `expression` is about
    expression String,                  -- of the rest, each word with a dot before it; '': destinations spelled like the pattern
    source String                       -- where it is declared, in words
)
ENGINE = {{AggregatingMergeTree}}
ORDER BY (system, receiver, pattern, from_at, prefix, expression, source)
SETTINGS {{settings}};

-- Deadlines for some destinations and receivers. Those written last count, all together; number 0: there are none.
CREATE TABLE IF NOT EXISTS deadline_rules
(
    declared_at DateTime64(6, 'UTC'),
    number UInt16,                      -- the first that matches counts
    system LowCardinality(String),      -- '': any
    destination String,                 -- pattern, prefix and expression as above; '': any
    prefix String,
    expression String,
    receiver String,                    -- a regular expression; '': any
    seconds Float64
)
ENGINE = {{ReplacingMergeTree}}
ORDER BY (declared_at, number)
SETTINGS {{settings}};
