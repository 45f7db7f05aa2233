"""Moves windows from sources through a cascade to sinks. Threads, processes and queues live here alone; no adapter or
model is known by name."""
