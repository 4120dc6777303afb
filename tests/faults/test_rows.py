"""The table of faults is complete, and every row has a test."""

from __future__ import annotations

from ..world.rows import CLASSES, ROWS, proofs


def test_every_row_of_the_matrix_is_proven() -> None:
    assert len(ROWS) == 101
    assert sorted(ROWS.keys() - {proof.id for proof in proofs()}) == []


def test_rows_are_in_the_order_of_their_classes() -> None:
    assert list(dict.fromkeys(name[0] for name in ROWS)) == list(CLASSES)
    for letter in CLASSES:
        names = [name for name in ROWS if name[0] == letter]
        assert names == sorted(names)


def test_no_case_is_listed_twice() -> None:
    told = [(proof.id, proof.happens) for proof in proofs()]
    assert len(told) == len(set(told))
