-- What a receiver is where that is more than a queue or a group: `stream`, a queue whose messages stay for whoever reads it;
-- `unordered`, one whose messages leave it otherwise than they came in; `made up`, a group with a name for one run.
ALTER TABLE receiver_states ADD COLUMN IF NOT EXISTS kind LowCardinality(String) DEFAULT '' CODEC(ZSTD(1));
