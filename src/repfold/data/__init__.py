"""Images in, uint8 batches out: sources, framing, the loader, and the transforms of whole batches."""

from repfold.data.collection import Images, in_memory
from repfold.data.crops import CropSettings, Framing
from repfold.data.images import BrokenImageError, read_image
from repfold.data.loader import Batch, Loader
from repfold.data.preprocessing import preprocess
from repfold.data.seeding import batch_generator
from repfold.data.settings import DataSettings
from repfold.data.source import Source, Survey, look_through, open_source, refuse_inside
from repfold.data.statistics import channel_statistics

__all__ = [
    "Batch",
    "BrokenImageError",
    "CropSettings",
    "DataSettings",
    "Framing",
    "Images",
    "Loader",
    "Source",
    "Survey",
    "batch_generator",
    "channel_statistics",
    "in_memory",
    "look_through",
    "open_source",
    "preprocess",
    "read_image",
    "refuse_inside",
]
