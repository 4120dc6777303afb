"""How long things may take and how large they may be: the figures of `docs/design.md`, in one place."""

from __future__ import annotations

CONNECT_TIME = 10.0
"""Seconds until a connection is there, over all addresses of the host."""
FIRST_TRY = 2.0
"""Seconds for the first address of a family while the other family is untried."""
HANDSHAKE_TIME = 10.0
"""Seconds for TLS, and for a proxy to lead on."""
HEADER_TIME = 30.0
"""Seconds until all headers of an answer are there."""
GRACE = 2.0
"""Seconds more, so that plain silence is seen by the socket, after which a new try makes sense, and only a trickle by the watch."""
IDLE_TIME = 30.0
"""Seconds without a single byte."""
AHEAD_TIME = 5.0
"""Seconds after which a connection that was opened ahead is not used any more."""
LEAST_RATE = 1024
"""Bytes per second over `RATE_TIME`; a slower body is given up."""
RATE_TIME = 60.0

COMMIT_TIME = 120.0
"""Seconds until a registry has answered an upload: it may have to hash all of it, or hand it on."""

TRIES = 5
"""How often one thing is asked for, in all."""
FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
"""Seconds before a new try: a random part of `FIRST_WAIT` · 2ⁿ, at most this (full jitter)."""
LEAST_PAUSE = 1.0
"""Seconds; a host that asks for less has not said how long it wants to be left alone."""
WAITING_ALLOWED = 120.0
"""Seconds that one request may spend in pauses that a host asked for, where `--timeout` says nothing."""
LONGEST_SHARED_PAUSE = 86400.0
"""Seconds for which other processes are told of a pause at most: no host can keep a machine out for ever with one answer."""
RECENT_PAUSE = 60.0
"""Seconds after the end of a pause in which a process that comes anew begins with one request at a time, too."""
NO_PROGRESS = 60.0
"""Seconds without any progress, pauses that a host asked for aside, after which a transfer ends."""
RESUMES = 10
"""How often one blob goes on after a cut that brought something, but less than `WORTH_A_RESUME`."""
WORTH_A_RESUME = 1 << 20
"""Bytes; after a cut that brought as many, it goes on without counting."""
RESUMES_WITHOUT_PROGRESS = 3

DEFAULT_JOBS = 16
MAX_JOBS = 32
"""Requests to one host at a time."""
SUCCESSES_TO_RESTORE = 8
"""Answers in a row after which a host that was throttled gets one more request at a time again."""

MAX_INTERIM = 16
"""Answers of the kind 1xx before the answer."""
MAX_FRAMING_LINE = 4096
"""Bytes of the line of a chunk size, or of a trailer."""
CHUNK_FRAMING = 16
"""Bytes of framing that each chunk may have, besides two for each byte of content."""
MAX_FRAMING = 16 * 1024
"""Bytes of framing beyond that in one answer, and bytes of its trailers."""
MAX_REDIRECTS = 5
MAX_ERROR_BODY = 64 * 1024
MAX_PAGES = 200
MAX_CATALOG_PAGES = 2000
MAX_PAGE_SIZE = 16 << 20
MAX_ENTRIES = 200_000
MAX_REFERRERS = 10_000
MAX_UNTYPED = 100
"""Referrers whose type the list does not say, so that each is asked for."""

LIST_CONNECT_TIME = 3.0
"""Seconds until a connection for a revocation list is there."""
LIST_TIME = 10.0
"""Seconds for one revocation list in all."""
MAX_CRL_BYTES = 32 << 20
"""Bytes of a revocation list."""
