"""Questions and answers on the wire. Pure."""
