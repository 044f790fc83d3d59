"""The commands, one file each: options, help, examples and body.

Records go to the output, everything else to standard error.
"""
