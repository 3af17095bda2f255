"""
The way of a packet from a container, hop by hop: who lets it pass, who changes it, and by which rule it dies.

`tracer` looks and probes, in the process of the command: it needs root, Docker and the kernel, but no daemon. All that
it finds are values (`facts`, `events`), and `walk` makes hops of them without looking at anything. What it puts into
the kernel, for some seconds, are two nft tables that its own socket owns: with the process they are gone, however it
ends. They drop nothing, and nothing else is changed.
"""
