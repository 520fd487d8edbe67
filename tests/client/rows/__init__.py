"""The decisions about the protocol, row by row; and what servers really do, line by line."""
