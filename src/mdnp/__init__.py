"""mdnp: a network plugin for plain Docker, and the tool to see and mend what it does."""

__version__ = "0.1.0"
