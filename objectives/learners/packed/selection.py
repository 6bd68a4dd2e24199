"""Which slots of a pack take part in a forward pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor

from objectives.learners.packed.dropout import Dropout


@dataclass(slots=True)
class Selection:
    """Which adapters a forward pass goes through: one object, which all modules of a pack look at."""

    slots: Tensor | slice = field(default_factory=lambda: slice(None))
    """The slots that the batch holds, in its order: indices, or where they are neighbours, from which to which."""
    enabled: bool = True
    dropout: Dropout | None = None

    def of(self, stack: Tensor) -> Tensor:
        """What a stack, a slot an entry, holds for these slots."""
        # A slice is a view of the stack; an index copies every adapter that it names.
        return stack[self.slots] if isinstance(self.slots, slice) else stack.index_select(0, self.slots)


def stretches(slots: Iterable[int]) -> list[slice]:
    """Slots in their order, neighbours together."""
    found: list[slice] = []
    for k in slots:
        if found and found[-1].stop == k:
            found[-1] = slice(found[-1].start, k + 1)
        else:
            found.append(slice(k, k + 1))
    return found
