"""The checks of the fault tests detect the faults that they look for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ..world.world import STEERING, World

PULL = ("pull", "aks/foo:1", "--json")

SLIPS: dict[str, tuple[Callable[[World], object], str]] = {
    "a secret in what was printed": (lambda world: world.secret("foo.bin"), "contains the secret"),
    "a secret in a file": (lambda world: world.secret("the content"), "contains the secret"),
    "a host that is not allowed": (lambda world: world.allowed.discard(world.registry.data_host), "socket.connect"),
    "a file that was there": (lambda world: (world.here / "foo.bin").write_text("another"), "was changed"),
}


@pytest.mark.parametrize(("slip", "said"), SLIPS.values(), ids=SLIPS)
def test_a_slip_is_noticed(world: World, slip: Callable[[World], object], said: str) -> None:
    world.artifact("aks/foo", b"the content")
    slip(world)
    with pytest.raises(AssertionError, match=said):
        world.run(*PULL, "--force")


def test_memory_and_bytes_are_measured(world: World) -> None:
    data = bytes(100_000)
    world.artifact("aks/foo", data)
    ended = world.run(*PULL).succeeded(made={"foo.bin": data}, requests=3)
    assert 10 << 20 < ended.peak < 100 << 20
    assert len(data) < ended.received < len(data) + 10_000
    with pytest.raises(AssertionError, match="MiB"):
        world.run(*PULL, memory=10 << 20)


@pytest.mark.parametrize("text", ["\x1b[31m", "a\rb", "\x07", "\u202e", "\u2028", "\x9b", "\0", "\ufeff"])
def test_what_steers_a_terminal_is_known(text: str) -> None:
    assert STEERING.search(text)
    assert not STEERING.search("plain, with a tab\tand a line\n«ä»")
