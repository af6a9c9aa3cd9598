"""One module per verb of the command line: arguments, reading, calling a package, writing."""
