"""Write files and directories to the user's destination. No other package writes there.

Content is written to a temporary file, verified, flushed to disk and then renamed atomically. Directories below the destination are
opened by descriptor and never through a symbolic link, so neither a publisher nor another process can redirect a write.
"""
