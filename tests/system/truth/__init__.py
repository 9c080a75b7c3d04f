"""The judge of the judge: random scenarios on real brokers, what every client wrote down, and the ledger beside it.

`make truth ARGS="--minutes 10 --seed 7"` runs it. Nothing in here knows how the collector judges: what is right follows
from what clients recorded and from what the maker of a scenario did.
"""
