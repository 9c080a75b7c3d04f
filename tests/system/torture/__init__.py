"""The collector under torture: killed at any moment, its disk failing, strangers at its ports; what it acknowledged is counted after."""
