-- Days of `touched` all of which the judge has been through, a day ago at least.
SELECT DISTINCT partition
FROM {{parts}}
WHERE database = currentDatabase() AND active AND table = {touched:String}
    -- A difference rather than a limit: a Date has no days before 1970.
    AND dateDiff('day', toDateOrNull(partition), (SELECT toDate(max(upto)) FROM judge_progress)) > 1
