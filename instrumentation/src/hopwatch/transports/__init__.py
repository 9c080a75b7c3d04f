"""One module per library: where a message is sent, received and settled. All span work is in the recorder."""
