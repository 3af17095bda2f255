"""The operator's door: what is promised and what is true, as plain JSON. It reads; it changes nothing."""
