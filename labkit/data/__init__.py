"""Files -> clips -> batches: the course layout, packs, the simulated table, ClipDataset.

`Clip` and `write_split` are the way in for clips that a program makes itself.
"""

from labkit.data.clip import Clip
from labkit.data.layout import write_split

__all__ = ["Clip", "write_split"]
