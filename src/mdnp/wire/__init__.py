"""
Docker's plugin protocol: JSON in, JSON out, and the form of errors. It decides nothing about networks.

What Docker sends is parsed here into values that cannot be wrong; what it gets back is written here, field by field.
"""
