"""What the brokers themselves know: who is owed what, what they still hold, what they threw away.

One module per broker, each with the same shape (`model.Witness`); `watch.py` asks them from time to time and writes
what they say into the engine. They keep no state that the engine does not have too.
"""
