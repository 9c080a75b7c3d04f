"""A toy message library: boxes in this process, whose parcels are taken one by one and accepted or refused."""

import asyncio
from dataclasses import dataclass, field


@dataclass(eq=False)
class Parcel:
    """A message: something in it, and a label others may write on."""

    content: bytes
    label: dict[str, str] = field(default_factory=dict)
    box: "Box | None" = None

    def accept(self) -> None:
        """Say that it was dealt with."""

    def refuse(self) -> None:
        """Put it back into its box."""
        if self.box is not None:
            self.box.queue.put_nowait(self)


class Box:
    """Where parcels wait."""

    def __init__(self, name: str, room: int = 0) -> None:
        self.name = name
        self.queue: asyncio.Queue[Parcel] = asyncio.Queue(room)

    async def put(self, content: bytes, label: dict[str, str] | None = None) -> None:
        """Put a parcel in; raises QueueFull where there is no room."""
        self.queue.put_nowait(Parcel(content, dict(label or {}), self))

    async def take(self) -> Parcel:
        """Take the next parcel, or wait for it."""
        return await self.queue.get()
