"""Who this program says it is."""

from importlib import metadata

VERSION = metadata.version("thresher")
