-- Spans that began in the window. Parameters: since, until.
SELECT count() AS spans FROM spans WHERE started_at BETWEEN {since:DateTime64(6)} AND {until:DateTime64(6)}
