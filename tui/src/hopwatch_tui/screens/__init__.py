"""One module per screen of the live view."""
