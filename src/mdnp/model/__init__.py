"""Docker's nouns and ours, as frozen values, and the parsing of what users write.

Pure: nothing here reads a clock, a file or a socket. A value that exists is valid; what is not raises
`InvalidParameter` or `Unsupported` while it is made.
"""
