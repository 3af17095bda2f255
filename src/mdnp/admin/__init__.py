"""The operator's door: what is promised and what is true, as plain JSON, and the means to mend it."""
