"""The worker's end of the conversation: sends tensors through the window, asks the host for what it may have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mergebench_core.checkpoints.checkpoint import Checkpoint, pieces
from mergebench_core.checkpoints.dtypes import torch_dtype
from mergebench_core.errors import PluginError
from mergebench_core.worker.channel import Channel, Message
from mergebench_core.worker.window import NUM_SLOTS, SLOT_BYTES, Window

if TYPE_CHECKING:
    import torch


class HostRefusal(PluginError):
    """The host refused a request: a budget is used up or something was not declared."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A slot of the window that nobody else fills meanwhile."""

    number: int
    window: Window

    def view(self, numel: int) -> torch.Tensor:
        """Return its first `numel` elements, fp32 and flat."""
        import torch

        return self.window.view(self.number, numel, torch.float32)


class Stream:
    """Sends pieces of tensors and requests; keeps count of the free slots of the window."""

    def __init__(self, channel: Channel, window: Window) -> None:
        self._channel = channel
        self._window = window
        self._free = list(range(NUM_SLOTS))
        self._num_reserved = 0

    def reserve(self) -> Slot | None:
        """Return a slot to be filled and then sent, None if too many are reserved: one is left to go on with."""
        if self._num_reserved >= NUM_SLOTS - 1:
            return None
        self._num_reserved += 1
        return Slot(number=self._take_slot(), window=self._window)

    def send_slot(self, slot: Slot, name: str, offset: int, values: torch.Tensor) -> None:
        """Hand a flat piece to the host in a reserved slot, where it may lie already."""
        if values.data_ptr() != slot.view(values.numel()).data_ptr():
            self._window.put(slot.number, values)
        self._num_reserved -= 1
        self._channel.send({"chunk": name, "offset": offset, "numel": values.numel(), "slot": slot.number})

    def ask(self, request: Message) -> Any:
        """Send a request and return the host's answer.

        Raises:
            HostRefusal: the host refuses, saying why.
        """
        self.drain()
        self._channel.send(request)
        answer = self._channel.receive()
        if "refused" in answer:
            raise HostRefusal(answer["refused"])
        return answer["ok"]

    def send_piece(self, name: str, offset: int, values: torch.Tensor) -> None:
        """Hand a flat piece to the host, in as many slots as it takes."""
        step = SLOT_BYTES // values.element_size()
        for start in range(0, values.numel(), step):
            part = values[start : start + step]
            slot = self._take_slot()
            self._window.put(slot, part)
            self._channel.send({"chunk": name, "offset": offset + start, "numel": part.numel(), "slot": slot})

    def send_tensors(self, tensors: Iterable[tuple[str, torch.Tensor]], base: Checkpoint) -> None:
        """Hand whole final tensors to the host, rounded to the base's dtype.

        Raises:
            PluginError: a name that the base does not have, or another shape.
        """
        for name, tensor in tensors:
            entry = base.entries.get(name)
            if entry is None or tuple(tensor.shape) != entry.shape:
                shape = f"shape {list(entry.shape)}" if entry else "no such tensor"
                raise PluginError(f"'{name}' comes with shape {list(tensor.shape)}; the base has {shape}")
            flat = tensor.detach().cpu().to(torch_dtype(entry.dtype)).reshape(-1)
            for piece in pieces(entry):
                self.send_piece(name, piece.offset, flat[piece.offset : piece.offset + piece.numel])

    def drain(self) -> None:
        """Wait until the host has taken everything that was sent out of the window."""
        while len(self._free) < NUM_SLOTS - self._num_reserved:
            self._free.append(self._channel.receive()["ack"])

    def release(self) -> None:
        """Free the slots that were reserved and will not be sent."""
        self.drain()
        self._free, self._num_reserved = list(range(NUM_SLOTS)), 0

    def _take_slot(self) -> int:
        while not self._free:
            self._free.append(self._channel.receive()["ack"])
        return self._free.pop()
