-- Which of several collectors over one store does what only one may do. A row per job and collector; times by the engine's clock.
CREATE TABLE IF NOT EXISTS leases
(
    job String,
    holder String,                                         -- a collector, by an id it gave itself when it started
    since DateTime64(3, 'UTC'),                            -- when it asked for the job
    until DateTime64(3, 'UTC'),                            -- it has to ask again before that
    number UInt64                                          -- of a collector's rows, the last counts
)
ENGINE = {{ReplacingMergeTree number}}
ORDER BY (job, holder)
