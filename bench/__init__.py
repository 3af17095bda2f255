"""What mdnp costs, measured: `make bench` runs everything here and writes docs/bench."""
