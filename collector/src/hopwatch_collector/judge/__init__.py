"""Judges deliveries: what became of each message for each receiver, whenever something about it changed.

`rules` and `signals` say how; `reading` reads what is known of messages, `judging` makes deliveries of it, `ledger` writes
what changed, `changes` finds what is to be judged again, `loop` does all of it again and again.
"""
