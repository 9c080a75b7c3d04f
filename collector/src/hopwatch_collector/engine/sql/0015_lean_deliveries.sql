-- Reports of subscriptions lie in the order of what they are about; those that were learnt lately are found by this, however late they came.
ALTER TABLE brief_subscriptions ADD INDEX IF NOT EXISTS by_learning seen_at TYPE minmax GRANULARITY 1;

ALTER TABLE brief_subscriptions MATERIALIZE INDEX by_learning;

-- What is told by other columns of a delivery is not kept besides: whether it changed is seen by all of them, and what is settled has
-- been so since then.
ALTER TABLE deliveries DROP COLUMN IF EXISTS fingerprint, DROP COLUMN IF EXISTS settled_at;

ALTER TABLE deliveries
    ADD COLUMN IF NOT EXISTS settled_at DateTime64(6, 'UTC') ALIAS if(verdict = 'settled', since, toDateTime64(0, 6, 'UTC')) AFTER received_at
