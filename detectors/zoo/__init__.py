"""The shipped models, a folder each, and `convert`, which made them from their published originals."""
