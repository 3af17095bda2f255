"""The zone of a network. Pure."""
