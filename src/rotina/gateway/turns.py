"""Turns: tenants that wait for the same thing are served one after another, whoever waits most.

Round robin over tenants, first come first served within one (Nagle, "On packet switches with
infinite storage", RFC 970, 1985).
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """A queue that is fair to tenants."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, tenant: str, item: T) -> None:
        """Queue up, behind what the same tenant has waiting."""
        self._waiting.setdefault(tenant, deque()).append(item)
        self._size += 1

    def first(self) -> T:
        """Whose turn it is. Raises `IndexError` when nobody waits."""
        if not self._size:
            raise IndexError("nobody waits")
        return next(iter(self._waiting.values()))[0]

    def pop(self) -> T:
        """The same, who waits no longer; the tenant's next turn comes after all others'."""
        item = self.first()
        tenant, queue = next(iter(self._waiting.items()))
        queue.popleft()
        self._size -= 1
        del self._waiting[tenant]
        if queue:
            self._waiting[tenant] = queue
        return item

    def remove(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Take out all who are `unwanted`; the others keep their places."""
        gone: list[T] = []
        for tenant, queue in list(self._waiting.items()):
            found = [item for item in queue if unwanted(item)]
            if not found:
                continue
            gone += found
            kept = deque(item for item in queue if not unwanted(item))
            if kept:
                self._waiting[tenant] = kept
            else:
                del self._waiting[tenant]
        self._size -= len(gone)
        return gone
