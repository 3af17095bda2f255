"""
Every point where the daemon touches the store, the kernel or the socket fails, or is where the daemon is killed.

`points` names them, `contracts` wraps the contracts of the rooms, `daemon` builds the house with the wrapped ones.
`host` is a network namespace with that daemon in it, `docker` the engine that calls it and does after a failure what
the engine does, `story` what it is made to do, `truth` what must hold. `case` goes through the story to one call,
puts one fault into it, and goes on from there; `nursery` runs many cases at once. docs/faults.md is written by
`python -m tests.faults`, which also replays single cases.
"""
