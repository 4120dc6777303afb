"""What an archive holds, as a tree of names: each one can stand beside the others on every operating system."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from ..artifact.filename import same_name
from . import limits


class TreeNode:
    """A file or a directory.

    Attributes:
        below: of a directory, what is in it, by what some file system takes for the same name.
        is_stated: whether the archive has a member for it; a directory may only stand in the paths of others.
        identity: of a directory that was made: device and number, so that another one in its place is noticed.
    """

    __slots__ = ("below", "identity", "is_stated", "name")

    def __init__(self, name: str, *, is_directory: bool) -> None:
        self.name = name
        self.below: dict[str, TreeNode] | None = {} if is_directory else None
        self.is_stated = False
        self.identity: tuple[int, int] | None = None

    def names(self) -> set[str]:
        """The names in a directory."""
        return {node.name for node in (self.below or {}).values()}

    def directories(self) -> list[TreeNode]:
        """The directories in a directory."""
        return [node for node in (self.below or {}).values() if node.below is not None]


class Tree:
    """All names of an archive.

    Args:
        refuse: called with the rule that a name breaks; it raises.
        too_much: called with what is too much, and the limit; it raises.
    """

    def __init__(self, refuse: Callable[[str], NoReturn], too_much: Callable[[str, str], NoReturn]) -> None:
        self.top = TreeNode("", is_directory=True)
        self._refuse = refuse
        self._too_much = too_much
        self._count = 0

    def add(self, parts: Sequence[str], *, is_directory: bool) -> tuple[TreeNode, ...]:
        """Take a member in: the way to it, from below the top to the member itself.

        Args:
            parts: of its path, each one safe by itself; none for the top, which is no news.

        Raises:
            PolicyError: `member-refused`, `limit-passed`.
        """
        if len(parts) > limits.MAX_DEPTH:
            self._too_much(f"one of its members has a path of {len(parts)} parts", f"{limits.MAX_DEPTH}")
        way: list[TreeNode] = []
        node = self.top
        for depth, part in enumerate(parts, start=1):
            node = self._step(node, part, is_directory=is_directory or depth < len(parts))
            way.append(node)
        if way:
            if node.is_stated:
                self._refuse("it stands there twice")
            if not is_directory and node.below is not None:
                self._refuse("it is a file, where others need a directory")
            node.is_stated = True
        return tuple(way)

    def _step(self, above: TreeNode, part: str, *, is_directory: bool) -> TreeNode:
        if above.below is None:
            self._refuse(f"it needs the directory `{above.name}`, which is a file")
        key = same_name(part)
        node = above.below.get(key)
        if node is None:
            self._count += 1
            if self._count > limits.MAX_MEMBERS:
                self._too_much("it has too many files and directories", f"{limits.MAX_MEMBERS}")
            node = above.below[key] = TreeNode(part, is_directory=is_directory)
        elif node.name != part:
            self._refuse(f"some file systems take it for the same as `{node.name}`")
        return node
