"""The unfinished part of a store as a folder of limited size, with which a run goes on on another machine."""

from makebreak.portable.folder import MIB, PortableFolderError, SizeLimits
from makebreak.portable.packing import Packing, Selection, pack
from makebreak.portable.unpacking import unpack

__all__ = ["MIB", "Packing", "PortableFolderError", "Selection", "SizeLimits", "pack", "unpack"]
