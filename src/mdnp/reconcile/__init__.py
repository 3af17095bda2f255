"""
One path for change, repair, start and undo: plan what should be, compare it with what is, take the steps between.

`diff` and `desired` are pure. `converge` is the only caller of `Kernel.perform`.
"""
