"""Random changes of bytes, for the short fuzzing run of `make test`, and for systems without atheris."""

from __future__ import annotations

import random
from collections.abc import Sequence

_INTERESTING = (
    b"\x00", b"\xff", b"\x7f", b"\x80", b"\n", b"\r\n", b"..", b"../", b"/", b"\\", b"@", b":", b"%00", b"%2e%2e", b"\x1b[2J", b"\xe2\x80\xae",
    b"\xed\xa0\x80", b'"\\ud800"', b"\\u0000", b"1e999", b"-1", b"0", b"9" * 19, b"9" * 400, b"9" * 5000, b"true", b"null", b"{}", b"[]", b"[" * 70,
    b"{" * 70, b"&a ", b"*a", b"!!python/object ", b"\xef\xbb\xbf", b"sha256:", b"https://", b"[::1]", b"127.0.0.1", b"\xc0\xaf",
)  # fmt: skip


def mutated(data: bytes, dice: random.Random, others: Sequence[bytes], most: int) -> bytes:
    """Return the data with one to six random changes."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 3, 6))):
        at = dice.randrange(len(changed) + 1)
        match dice.randrange(10):
            case 0 if changed:
                changed[at - 1] ^= 1 << dice.randrange(8)
            case 1 if changed:
                changed[at - 1] = dice.randrange(256)
            case 2:
                del changed[at : at + dice.choice((1, 2, 8, 64, 512))]
            case 3:
                changed[at:at] = dice.randbytes(dice.choice((1, 2, 8)))
            case 4 if changed:
                other = dice.randrange(len(changed))
                changed[at:at] = changed[other : other + dice.choice((1, 4, 32, 512))]
            case 5:
                del changed[at:]
            case 6:
                token = dice.choice(_INTERESTING)
                changed[at : at + dice.choice((0, len(token)))] = token
            case 7:
                foreign = dice.choice(others)
                changed[at:] = foreign[dice.randrange(len(foreign) + 1) :]
            case 8 if changed:
                # Replace a number.
                end = at
                while end < len(changed) and chr(changed[end]).isdigit():
                    end += 1
                changed[at:end] = str(dice.choice((0, 1, -1, 255, 256, 1 << 31, 1 << 63, 1 << 64, 10**30))).encode()
            case _:
                other, size = dice.randrange(len(changed) + 1), dice.choice((1, 4, 16))
                changed[at : at + size], changed[other : other + size] = changed[other : other + size], changed[at : at + size]
    return bytes(changed[:most])
