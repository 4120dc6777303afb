"""Limits of time and size for requests and responses; `docs/reference/limits.md` lists them too."""

from __future__ import annotations

CONNECT_TIME = 10.0
"""Seconds to connect, over all addresses of the host."""
FIRST_TRY = 2.0
"""Seconds for the first address of a family while the other family is still untried."""
HANDSHAKE_TIME = 10.0
"""Seconds for the TLS handshake, and for a proxy to open a tunnel."""
HEADER_TIME = 30.0
"""Seconds until all headers of a response have arrived."""
GRACE = 2.0
"""Extra seconds for the watchdog beyond the socket timeout: a silent connection fails with a retryable socket timeout, and the
watchdog only catches slow trickles."""
IDLE_TIME = 30.0
"""Seconds without a single byte."""
AHEAD_TIME = 5.0
"""Seconds after which an unused preconnection is discarded."""
LEAST_RATE = 1024
"""Minimum bytes per second over `RATE_TIME`; a slower download is aborted."""
RATE_TIME = 60.0

COMMIT_TIME = 120.0
"""Seconds until the response to an upload: the registry may have to hash the blob or forward it to its storage."""

TRIES = 5
"""Maximum number of tries of one request."""
FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
"""Maximum seconds before a retry, which waits a random part of `FIRST_WAIT` · 2ⁿ (full jitter)."""
LEAST_PAUSE = 1.0
"""Seconds; a shorter `Retry-After` is treated as if it were missing."""
WAITING_ALLOWED = 120.0
"""Seconds that one request may wait for throttled hosts, without `--timeout`."""
LONGEST_SHARED_PAUSE = 86400.0
"""Maximum seconds of a pause shared with other processes, so that one response cannot block a machine forever."""
RECENT_PAUSE = 60.0
"""Seconds after the end of a pause in which new processes also start with one request at a time."""
NO_PROGRESS = 60.0
"""Seconds without progress after which a transfer is aborted; waiting for a throttled host does not count."""
RESUMES = 10
"""Maximum number of resumes of one blob after cuts with some progress, but less than `WORTH_A_RESUME`."""
WORTH_A_RESUME = 1 << 20
"""Bytes; a cut after at least this much progress does not count."""
RESUMES_WITHOUT_PROGRESS = 3
"""Maximum number of resumes in a row after cuts without progress."""

DEFAULT_JOBS = 16
MAX_JOBS = 32
"""Concurrent requests per host."""
SUCCESSES_TO_RESTORE = 8
"""Successes in a row after which a throttled host gets one more concurrent request, beyond half of the former number."""

MAX_INTERIM = 16
"""Maximum number of 1xx responses before the final one."""
MAX_FRAMING_LINE = 4096
"""Bytes of a chunk size line or a trailer line."""
CHUNK_FRAMING = 16
"""Bytes of framing allowed per chunk, besides two per byte of content."""
MAX_FRAMING = 16 * 1024
"""Bytes of framing beyond that in one response, and bytes of its trailers."""
MAX_REDIRECTS = 5
MAX_ERROR_BODY = 64 * 1024
MAX_PAGES = 200
MAX_CATALOG_PAGES = 2000
MAX_PAGE_SIZE = 16 << 20
MAX_ENTRIES = 200_000
MAX_REFERRERS = 10_000
MAX_UNTYPED = 100
"""Referrers without an artifact type in the list; each needs a request for its manifest."""

LIST_CONNECT_TIME = 3.0
"""Seconds to connect for a CRL."""
LIST_TIME = 10.0
"""Seconds for the whole download of a CRL."""
MAX_CRL_BYTES = 32 << 20
"""Bytes of a CRL."""
