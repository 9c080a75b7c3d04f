"""The pieces screens are made of; those that change all the time draw line by line."""
