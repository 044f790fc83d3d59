"""What each command does, once its options are read. Writes records to its output and all else to standard error."""
