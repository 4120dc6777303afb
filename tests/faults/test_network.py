"""N: what a network does."""

from __future__ import annotations

from .rows import row
from .world import World

DATA = bytes(range(256)) * 400
LONG = "aks/long:1"
PULL = ("pull", LONG, "--json")
MADE = {"long.bin": DATA}


def long(world: World) -> World:
    """A blob of 100 kB, whose way can be made hard."""
    world.registry.add_artifact("aks/long", "1", ("long.bin", DATA))
    return world


@row("N01", "the body stops after 60,000 bytes, at each try", "goes on three times, says how far it came, keeps that", code=7)
def test_a_body_that_always_stops_early_is_said_with_how_far_it_came(world: World) -> None:
    long(world).registry.on("data").cuts_after(60_000, times=1)
    world.registry.on("data").cuts_after(0)
    ended = world.run(*PULL).failed(7, "cut", "60000 of 102400 bytes", requests=14)
    assert list(ended.partial.values()) == [60_000]
    world.recovers(*PULL, made=MADE)
