"""What each command does, once its options are read. Records go to its output, all else to standard error."""
