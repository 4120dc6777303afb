"""The only place that writes where the user looks: final names, clashes, and the step from the cache into a directory.

A final name appears by one atomic step, after the bytes beside it have been hashed and forced to the disk. Directories below the
destination are entered by descriptor and never through a symbolic link, so nothing that a publisher or another process puts there
can lead outside.
"""
