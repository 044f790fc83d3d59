"""The commands, one file each, with options, help, examples and body.

Records go to the output, everything else goes to standard error.
"""
