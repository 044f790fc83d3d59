"""The commands, one file each with its options, help and body.

Records go to the output, everything else goes to standard error.
"""
