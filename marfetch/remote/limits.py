"""Limits of time and size for requests and responses. `docs/reference/limits.md` lists them for users."""

from __future__ import annotations

CONNECT_TIME = 10.0
"""Maximum seconds to connect, for all addresses of the host together."""
FIRST_TRY = 2.0
"""Maximum seconds for the first address of a family before the other family is tried."""
HANDSHAKE_TIME = 10.0
"""Maximum seconds for the TLS handshake, and for a proxy to open a tunnel."""
HEADER_TIME = 30.0
"""Maximum seconds until all headers of a response have arrived."""
GRACE = 2.0
"""Seconds that the watchdog waits longer than the socket timeout. So a silent connection fails with a socket timeout, which is retried. The
watchdog ends only exchanges that still receive a few bytes."""
IDLE_TIME = 30.0
"""Seconds without any received byte after which a request fails."""
AHEAD_TIME = 5.0
"""Seconds after which an unused preconnection is discarded."""
LEAST_RATE = 1024
"""Minimum bytes per second over `RATE_TIME`; a slower download is aborted."""
RATE_TIME = 60.0

COMMIT_TIME = 120.0
"""Maximum seconds until the response to an upload. The registry may have to hash the blob or forward it to its storage."""

TRIES = 5
"""Maximum number of tries of one request."""
FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
"""Maximum seconds to wait before a retry. The wait is a random part of `FIRST_WAIT` · 2ⁿ for try n (full jitter)."""
LEAST_PAUSE = 1.0
"""Minimum seconds in `Retry-After`. A shorter pause is replaced with a random one, as if the header were missing."""
WAITING_ALLOWED = 120.0
"""Maximum seconds that one request waits for throttled hosts if `--timeout` is not set."""
LONGEST_SHARED_PAUSE = 86400.0
"""Maximum seconds of a pause that is shared with other processes. So one response cannot block a machine forever."""
RECENT_PAUSE = 60.0
"""For this many seconds after a pause, new processes also start with one request at a time."""
NO_PROGRESS = 60.0
"""Seconds without progress after which a transfer is aborted. The time spent waiting for a throttled host does not count."""
RESUMES = 10
"""How often one blob may resume after a transfer that received less than `WORTH_A_RESUME` before it was cut."""
WORTH_A_RESUME = 1 << 20
"""Bytes of progress since the previous cut. A cut after at least this much does not count towards `RESUMES`."""
RESUMES_WITHOUT_PROGRESS = 3
"""How often one blob may resume consecutively without any progress."""

DEFAULT_JOBS = 16
MAX_JOBS = 32
"""Maximum number of concurrent requests per host."""
SUCCESSES_TO_RESTORE = 8
"""Consecutive successes before a host that was throttled gets one more concurrent request, beyond half of the former limit."""

MAX_INTERIM = 16
"""Maximum number of 1xx responses before the final response."""
MAX_FRAMING_LINE = 4096
"""Maximum bytes of a line with a chunk size or a trailer."""
CHUNK_FRAMING = 16
"""Bytes of chunk framing allowed per chunk, in addition to two bytes per byte of content."""
MAX_FRAMING = 16 * 1024
"""Maximum bytes of chunk framing in one response beyond that allowance, and maximum bytes of its trailers."""
MAX_REDIRECTS = 5
MAX_ERROR_BODY = 64 * 1024
MAX_PAGES = 200
MAX_CATALOG_PAGES = 2000
MAX_PAGE_SIZE = 16 << 20
MAX_ENTRIES = 200_000
MAX_REFERRERS = 10_000
MAX_UNTYPED = 100
"""Maximum number of listed referrers without an artifact type. Each of them needs a request for its manifest."""

LIST_CONNECT_TIME = 3.0
"""Maximum seconds to connect to the server of a CRL."""
LIST_TIME = 10.0
"""Maximum seconds for the whole download of a CRL."""
MAX_CRL_BYTES = 32 << 20
"""Maximum bytes of a CRL."""
