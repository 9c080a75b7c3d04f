-- How far the judge had come, and what it was about to write.
SELECT toUnixTimestamp64Milli(upto) AS upto, messages, settings, number
FROM judge_progress FINAL
WHERE judge = 'deliveries'
