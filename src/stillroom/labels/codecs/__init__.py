"""Codecs: how the soft labels of a position become bytes, a module for each."""

from stillroom.labels.codecs.codec import register_codec
from stillroom.labels.codecs.largest import TopK, TopP
from stillroom.labels.codecs.sampled import Sampled

for _codec in (Sampled, TopK, TopP):
    register_codec(_codec)
