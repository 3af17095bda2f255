"""
Which address is whose: pools, the addresses handed out of them, and Docker's IPAM verbs over both.

`allocator` is pure: it decides from the records and the time that it is given, and never reads a clock, rolls dice or
waits. No verb answers with an address before the store has it, and none hands one out again before the store has
forgotten its holder. Nothing here touches the kernel, and nothing here asks Docker.
"""
