"""Blocks of bytes → whole lines, however long somebody makes one."""

from __future__ import annotations


class LineSplitter:
    """Holds at most one line of `largest` bytes, and what came with it. A longer one is passed over as it comes; `lost`
    is how the last one of those began."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._rest = bytearray()
        self.skipping = False
        """Whether the rest of a line that is too long is still to come."""
        self.lost = b""

    def feed(self, block: bytes) -> tuple[bytes, int]:
        """The lines that are whole now, with their ends, and how many behind them are too long (one at most; those that
        came whole are among the lines)."""
        if self.skipping:
            end = block.find(b"\n")
            if end < 0:
                return b"", 0
            block = block[end + 1 :]
            self.skipping = False
        end = block.rfind(b"\n") + 1
        whole = b""
        if end:
            whole = bytes(self._rest) + block[:end] if self._rest else block[:end]
            self._rest.clear()
        self._rest += block[end:]
        if len(self._rest) <= self._largest:
            return whole, 0
        self.lost = bytes(self._rest[: self._largest])
        self._rest.clear()
        self.skipping = True
        return whole, 1

    def end(self) -> bytes:
        """The last line, if its end is missing."""
        last = bytes(self._rest)
        self._rest.clear()
        self.skipping = False
        return last
