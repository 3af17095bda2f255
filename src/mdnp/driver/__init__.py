"""
Docker's NetworkDriver verbs, on values.

Each verb checks, writes the promise down, lets `reconcile` make it true, and answers; when the kernel refuses, it takes
the promise back and converges again. Every verb accepts the same request twice: Docker repeats calls whose answer it
did not see. No verb asks Docker anything: Docker holds locks meanwhile.
"""
