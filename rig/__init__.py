"""
The test rig: real Docker engines on one machine, each in namespaces of its own.

Nothing here ever touches the machine's main network namespace, and everything a run starts bears its mark, so that
the run itself or, if it was killed, the next one can remove it (see rig/sweep.py). It is not shipped in the wheel.
"""
