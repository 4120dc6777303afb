"""Checks of the registry and its data host, from `/v2/` to the first byte of a blob."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, NoReturn

from ..codes import CODES
from ..constraint import ANY_OR_PRERELEASE
from ..document import parse_json
from ..endpoint import Address, Endpoint
from ..errors import Error, PolicyError
from ..oci import INDEX_TYPES, MANIFEST_TYPES, Index, Manifest, parse_manifest
from ..reference import Reference, is_repository, is_tag
from ..remote.pauses import Pause, Pauses, retry_after
from ..remote.probe import Prober, Seen
from ..text import hidden, redacted, sent_values
from .findings import Finding, fault, ok, warning
from .network import FIREWALL, hosts

# -- the clock, and throttling


SKEW: Final = 300.0
"""A larger clock skew, in seconds, is a fault: it makes signed URLs and certificates invalid."""
SMALL_SKEW: Final = 60.0
"""A smaller clock skew, in seconds, is not a problem."""


def clock_finding(seen: Seen, now: float) -> Finding:
    """Compare this machine's clock with the `Date` header of a response.

    Args:
        seen: the response.
        now: this machine's time, in seconds since the epoch.
    """
    try:
        there = parsedate_to_datetime(seen.header("Date") or "")
        skew = now - (there if there.tzinfo else there.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return ok("clock", "the registry sends no readable `Date` header")
    far = f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} `{seen.address.name}`"
    if abs(skew) <= SMALL_SKEW:
        return ok("clock", far if abs(skew) >= 2 else "this machine's clock agrees with the registry's")
    how = fault if abs(skew) > SKEW else warning
    return how(
        "clock",
        far,
        "a wrong clock makes certificates and signed URLs look expired or not yet valid",
        "set the clock with NTP (`timedatectl set-ntp true`); in a virtual machine, also set the host's clock",
    )


def throttled(seen: Seen, now: float) -> Finding:
    """Report that the registry throttles requests (429), and how long to wait.

    Args:
        seen: the response with status 429.
        now: this machine's time, in seconds since the epoch.
    """
    wait = retry_after(seen.header("Retry-After"), now, date=seen.header("Date"))
    when, do = "it does not say for how long", "wait a few minutes"
    if wait is not None:
        moment = datetime.fromtimestamp(now, UTC) + timedelta(seconds=min(wait, 10**8))
        day = "" if wait < 86_400 else f" on {moment:%Y-%m-%d},"
        when, do = f"retry in {wait:.0f} s,{day} at {moment:%H:%M:%S} UTC", f"wait {wait:.0f} s"
        if wait > 10**8:
            when = f"retry in {wait:.3g} s, which is years from now"
    return _throttle(f"`{seen.address.name}` answers {seen.status} (too many requests): {when}", do)


def paused(address: Address, pause: Pause, now: float) -> Finding:
    """Report that no request was sent to a host, because the host throttled another process.

    Args:
        pause: the throttle of the other process.
        now: this machine's time, in seconds since the epoch.
    """
    moment = datetime.fromtimestamp(now, UTC) + timedelta(seconds=pause.left)
    return _throttle(
        f"`{address.name}` throttled another marfetch with this cache for {pause.seconds:.0f} s, until {moment:%H:%M:%S} UTC:"
        " no request was sent",
        f"wait {pause.left:.0f} s",
    )


def _throttle(saw: str, do: str) -> Finding:
    return fault(
        "throttle",
        saw,
        "this network's address sends too many requests; in CI, many jobs often share one address",
        f"{do}; then run fewer downloads at a time (`--jobs`), keep the cache between runs, or use another address",
    )


_ACCEPT: Final = ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))
_JSON: Final = "application/json"


class Stop(Exception):  # noqa: N818 - not an error
    """Raised by a check to skip the remaining checks, which need its result."""


@dataclass
class RegistryChecks:
    """Runs the checks of a registry in order and collects their findings.

    Args:
        prober: sends the requests.
        reference: the artifact to request, with its host.
        chosen: whether the user named the artifact.
        now: returns this machine's time, in seconds since the epoch.
        has_time: returns whether there is time for another check.
        untunnelled: why the proxy did not open a tunnel; None if it did, or if no proxy is used.
        pauses: the throttles that other processes recorded in the cache; None if there is no cache.

    Attributes:
        found: the findings.
        references: the `X-Msedge-Ref` headers of failed responses, for support.
        data: the data host that the registry redirects to; None until it is known.
    """

    prober: Prober
    reference: Reference
    chosen: bool
    now: Callable[[], float]
    has_time: Callable[[], bool] = lambda: True
    untunnelled: str | None = None
    pauses: Pauses | None = None
    found: list[Finding] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    data: Address | None = None
    _clock_seen: bool = False

    @property
    def endpoint(self) -> Endpoint:
        return self.prober.endpoint

    @property
    def official(self) -> bool:
        return self.endpoint.official

    def run(self) -> None:
        """Run the checks in order until one fails."""
        try:
            self._base()
            manifest = self._manifest()
            self._blob(manifest)
        except Stop:
            pass
        if not any(one.id == "throttle" for one in self.found) and self._clock_seen:
            self.found.append(ok("throttle", "no response was 429"))
        if not any(one.id == "block-page" for one in self.found) and self._clock_seen:
            self.found.append(ok("block-page", "no response was a block page"))

    # -- steps

    def _base(self) -> None:
        address = self._address("/v2/")
        seen = self._ask("registry", address)
        if seen.status in (301, 302, 303, 307, 308):
            where = _place(seen)
            self._stop(
                fault(
                    "registry",
                    f"`{address.name}/v2/` redirects to {where}",
                    "a login page of the network (captive portal) or a proxy answers instead of the registry",
                    "log in to the network with a browser, or " + self._allow(),
                )
            )
        if seen.status == 401:
            if self.official:
                self._stop(
                    fault(
                        "registry",
                        f"`{address.name}/v2/` asks for credentials (401)",
                        "MAR never asks for credentials, so something else answers",
                        self._allow(),
                    )
                )
            self._stop(
                warning(
                    "registry",
                    f"`{address.name}/v2/` asks for credentials (401)",
                    "the registry requires a login, so the remaining checks were skipped",
                    "log in with `helm registry login` or `docker login`; marfetch uses their credentials; then try `marfetch pull`",
                )
            )
        if seen.status != 200:
            self._unexpected("registry", seen, "/v2/")
        if seen.body.lstrip()[:1] == b"<" or "html" in (seen.header("Content-Type") or "").lower():
            self._stop(
                fault(
                    "registry",
                    f"`{address.name}/v2/` answers with a web page instead of `{{}}`",
                    "a login page of the network (captive portal) or a proxy answers instead of the registry",
                    "open the page in a browser and log in to the network, or " + self._allow(),
                )
            )
        edge = seen.header("X-Msedge-Ref")
        self.found.append(ok("registry", f"`{address.name}/v2/` answers 200" + (f" (X-Msedge-Ref: {edge})" if edge else "")))

    def _manifest(self) -> Manifest:
        try:
            reference, seen = self._tagged()
            if reference.digest is None and reference.tag is None:
                raise Stop
            what = f"the manifest of `{reference}`"
            media_type = (seen.header("Content-Type") or "").partition(";")[0].strip()
            known = media_type if media_type in MANIFEST_TYPES | INDEX_TYPES else None
            parsed = parse_manifest(seen.body, what=what, media_type=known)
            said = seen.header("Docker-Content-Digest")
            if said and said.startswith("sha256:") and said != str(parsed.descriptor.digest):
                raise PolicyError(f"{what} has the digest `{parsed.descriptor.digest}`, but the header says `{said}`", code="host-refused")
            if isinstance(parsed, Index):
                child = next((one for one in parsed.manifests if not one.is_attestation), None)
                if child is None:
                    raise Stop
                inner = self._ask("manifest", self._address(f"/v2/{reference.repository}/manifests/{child.digest}"), {"Accept": _ACCEPT})
                parsed = parse_manifest(inner.body, what=what, media_type=child.media_type)
        except Error as error:
            self._stop(
                fault(
                    "manifest",
                    error.message,
                    "the response is not a valid manifest: a proxy or a mirror may change responses",
                    "exempt the hosts that `marfetch endpoints` lists from inspection and caching; if the problem persists, report it",
                )
            )
        self.found.append(ok("manifest", f"`{reference}` exists: {len(parsed.raw)} bytes of `{parsed.descriptor.media_type}`"))
        if not isinstance(parsed, Manifest):
            raise Stop
        return parsed

    def _tagged(self) -> tuple[Reference, Seen]:
        """Request a manifest. Return its reference, with an existing tag or digest, and the response."""
        reference = self.reference
        if reference.tag is None and reference.digest is None:
            tag = self._newest(reference)
            if tag is None and not self.chosen and not self.official:
                reference, tag = self._any()
            if tag is None:
                self._stop(self._missing(f"`{reference.full_repository}` has no tags"))
            reference = replace(reference, tag=tag)
        name = reference.digest or reference.tag
        seen = self._ask("manifest", self._address(f"/v2/{reference.repository}/manifests/{name}"), {"Accept": _ACCEPT})
        if seen.status == 404:
            self._stop(self._missing(f"`{reference}` does not exist (404)"))
        if seen.status != 200:
            self._unexpected("manifest", seen, f"the manifest of `{reference}`")
        self.reference = reference
        return reference, seen

    def _newest(self, reference: Reference) -> str | None:
        seen = self._ask("manifest", self._address(f"/v2/{reference.repository}/tags/list"), {"Accept": _JSON})
        if seen.status in (404, 401):
            return None
        if seen.status != 200:
            self._unexpected("manifest", seen, f"the tags of `{reference.repository}`")
        tags = [tag for tag in _texts(seen, "tags") if is_tag(tag)]
        return ANY_OR_PRERELEASE.newest(tags) or next(iter(tags), None)

    def _any(self) -> tuple[Reference, str | None]:
        """Return an artifact from the catalog, with a tag, for a registry that does not have the default artifact."""
        seen = self._ask("manifest", self._address("/v2/_catalog"), {"Accept": _JSON})
        for name in [name for name in _texts(seen, "repositories") if is_repository(name)][:3]:
            reference = replace(self.reference, repository=name)
            tag = self._newest(reference)
            if tag is not None:
                return reference, tag
        return self.reference, None

    def _missing(self, saw: str) -> Finding:
        do = f"name an existing artifact: `marfetch doctor REF --endpoint {self.endpoint.name}`; find names with `marfetch search`"
        if self.chosen or self.official:
            return fault("manifest", saw, "the registry works but does not have the artifact: the name is wrong, or it was withdrawn", do)
        return warning(
            "manifest", saw, "the registry works but does not have the default artifact, so the remaining checks were skipped", do
        )

    def _blob(self, manifest: Manifest) -> None:
        layers = [one for one in (*manifest.layers, manifest.config) if one.size > 0]
        if not layers:
            raise Stop
        layer = min(layers, key=lambda one: one.size)
        address = self._address(f"/v2/{self.reference.repository}/blobs/{layer.digest}")
        seen = self._ask("redirect", address, {"Range": "bytes=0-0"})
        if seen.status in (301, 302, 303, 307, 308):
            data = self._redirect(seen, address)
            self.data = data
            self._content(data, came_from=address)
            return
        if seen.status not in (200, 206):
            self._unexpected("redirect", seen, f"a blob of `{self.reference}`")
        if self.official:
            self.found.append(
                warning(
                    "redirect",
                    f"`{address.name}` sends the content itself",
                    "MAR redirects to a data host, so a proxy follows redirects for its clients, or a cache answers",
                    "check that this proxy is intended; marfetch verifies every byte in any case",
                )
            )
        else:
            self.found.append(ok("redirect", f"`{address.name}` sends the content itself"))
        self._range(seen, address.name)

    def _redirect(self, seen: Seen, address: Address) -> Address:
        location = seen.header("Location")
        try:
            if not location:
                raise PolicyError(f"`{address.name}` redirects ({seen.status}) but does not say where to", code="redirect-refused")
            data = seen.target(location)
            self.endpoint.check(data, came_from=address)
        except PolicyError as error:
            allowed = hosts(china=self.endpoint.name == "china") if self.official else "the hosts of `--data-host`"
            self._stop(
                fault(
                    "redirect",
                    error.message,
                    f"the redirect leads to a host other than {allowed}: a mirror or a proxy changed the response",
                    error.hint,
                )
            )
        self.found.append(ok("redirect", f"`{address.name}` redirects to `{data.name}` for content"))
        return data

    def _content(self, data: Address, *, came_from: Address) -> None:
        seen = self._ask("data-host", data, {"Range": "bytes=0-0"}, came_from=came_from)
        if seen.status == 403:
            self._stop(
                fault(
                    "data-host",
                    f"the data host `{data.name}` rejects a freshly signed URL (403)",
                    "a wrong clock makes signatures look expired, or a proxy changes URLs, such as a `//` in them",
                    "see the finding `clock`; exempt the hosts that `marfetch endpoints` lists from inspection",
                )
            )
        if seen.status not in (200, 206):
            self._unexpected("data-host", seen, f"content from `{data.name}`")
        self.found.append(ok("data-host", f"`{data.name}` sends content"))
        self._range(seen, data.name)

    def _range(self, seen: Seen, name: str) -> None:
        if seen.status == 206:
            self.found.append(ok("range", f"`{name}` supports range requests (206)"))
            return
        self.found.append(
            warning(
                "range",
                f"`{name}` ignores range requests: it sent everything instead of one byte (200)",
                "an interrupted download starts over; MAR's data hosts support ranges, so something in between removes the header",
                "exempt the hosts that `marfetch endpoints` lists from inspection and caching",
            )
        )

    # -- single requests

    def _address(self, target: str) -> Address:
        return Address.parse(f"{self.endpoint.registry.origin}{target}")

    def _ask(self, step: str, address: Address, headers: dict[str, str] | None = None, *, came_from: Address | None = None) -> Seen:
        """Send one request and return the response. If it fails, is throttled or is a block page, add a finding and end the checks."""
        if not self.has_time():
            self._stop(
                warning(
                    step,
                    f"skipped: no time was left for a request to `{address.name}`",
                    "the previous checks passed, but they were slow",
                    "check the network: a slow proxy or DNS server delays every client",
                )
            )
        pause = self.pauses.pause(str(address.host)) if self.pauses is not None else None
        if pause is not None:
            self._stop(paused(address, pause, self.now()))
        try:
            seen = self.prober.get(address, headers, came_from=came_from)
        except Error as error:
            self._stop(self._no_answer(step, address, error))
        self._clock(seen)
        text, edge = seen.text, seen.edge_reference
        if seen.status >= 400 and edge:
            self.references.append(edge)
        if seen.status == 429 or "TOOMANYREQUESTS" in text[:2000]:
            wait = retry_after(seen.header("Retry-After"), self.now(), date=seen.header("Date"))
            if wait is not None and self.pauses is not None:
                self.pauses.record(str(address.host), wait)
            self._stop(throttled(seen, self.now()))
        if (seen.status in (403, 404) and seen.is_block_page) or (
            seen.status == 403 and step != "data-host" and not text.lstrip().startswith("{")
        ):
            self._stop(
                fault(
                    "block-page",
                    f"`{address.name}` answers {seen.status} with a block page" + (f" (reference: {edge})" if edge else ""),
                    "MAR's front end or a firewall blocks this network's address, for any artifact",
                    "try again later or from another network; give support the reference and this network's public address",
                )
            )
        return seen

    def _no_answer(self, step: str, address: Address, error: Error) -> Finding:
        if error.code == "proxy" or self.untunnelled is not None:
            saw = error.message if error.code == "proxy" else f"the proxy opens no tunnel to `{address.name}`: {self.untunnelled}"
            hint = _without_doctor(error.hint if error.code == "proxy" else CODES["proxy"].do)
            return fault("proxy", saw, "the proxy between this machine and MAR lets no request through", hint)
        if error.code == "tls":
            name = "interception" if re.search("self.signed|local issuer|unable to get", error.message) else "tls"
            means = "the certificate is not trusted: TLS inspection, or another service answers"
            return fault(name, error.message, means, _without_doctor(error.hint))
        if step == "data-host":
            return fault(
                "data-host",
                error.message,
                f"the registry can be reached but the data host `{address.name}` cannot: pulls find the artifact, then hang or fail",
                self._allow() + "; use the wildcard, because the host varies by region and over time",
            )
        return fault(
            step, error.message, "the connection works but the response does not arrive: a proxy or firewall cuts it", self._allow()
        )

    def _unexpected(self, step: str, seen: Seen, what: str) -> NoReturn:
        text = " ".join(re.sub(r"<[^<>]*>", " ", seen.body[:2000].decode("utf-8", "replace")).split())
        text = hidden(text, sent_values(seen.address.target, {}))[:160]
        means = "the registry failed" if seen.status >= 500 else "MAR does not send this status here, so something in between answers"
        do = "try again later; if the problem persists, report it with the reference" if seen.status >= 500 else self._allow()
        self._stop(fault(step, f"{what}: `{seen.address.name}` answers {seen.status}" + (f" ({text})" if text else ""), means, do))

    def _clock(self, seen: Seen) -> None:
        if not self._clock_seen:
            self._clock_seen = True
            self.found.append(clock_finding(seen, self.now()))

    def _allow(self) -> str:
        if not self.official:
            return f"check the registry at `{self.endpoint.name}` and any proxy in front of it"
        return FIREWALL.format(hosts=hosts(china=self.endpoint.name == "china"))

    def _stop(self, finding: Finding) -> NoReturn:
        self.found.append(finding)
        raise Stop


def _without_doctor(hint: str) -> str:
    """Remove the advice to run `marfetch doctor` from the hint of a network failure."""
    return hint.removesuffix(", or run `marfetch doctor`")


def _place(seen: Seen) -> str:
    location = seen.header("Location") or ""
    return f"`{redacted(location)[:200]}`" if location else "nowhere"


def _texts(seen: Seen, name: str) -> list[str]:
    try:
        document = parse_json(seen.body, "the list")
    except Error:
        return []
    value = document.get(name) if isinstance(document, dict) else None
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
