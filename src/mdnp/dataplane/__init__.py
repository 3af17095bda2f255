"""
What the kernel should look like: planners turn promises into kernel objects as values.

Pure: nothing here knows what the kernel looks like now, and nothing here changes it. How a freshly started daemon
knows that an object is ours stands in `naming`; a new kind of object without an answer there is not merged.
"""
