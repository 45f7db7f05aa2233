"""Hosts librdkafka's mock cluster, three brokers that speak the real protocol, and does to it what it is told on
standard input, a line each: `down`, `up`, `fail ERROR-CODE TIMES` (to whoever produces)."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import confluent_kafka

BROKERS = (1, 2, 3)
PRODUCE = 0  # its number in the protocol

(path,) = Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka*")
library = ctypes.CDLL(str(path))
for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
    getattr(library, name).restype = ctypes.c_void_p
library.rd_kafka_new.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
library.rd_kafka_mock_cluster_new.argtypes = [ctypes.c_void_p, ctypes.c_int]
library.rd_kafka_mock_cluster_bootstraps.argtypes = [ctypes.c_void_p]
library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
for name in ("rd_kafka_mock_broker_set_down", "rd_kafka_mock_broker_set_up"):
    getattr(library, name).argtypes = [ctypes.c_void_p, ctypes.c_int32]
library.rd_kafka_mock_push_request_errors_array.argtypes = [
    *(ctypes.c_void_p, ctypes.c_int16, ctypes.c_size_t),
    ctypes.POINTER(ctypes.c_int),
]

text = ctypes.create_string_buffer(512)
handle = library.rd_kafka_new(0, library.rd_kafka_conf_new(), text, 512)
assert handle, text.value
cluster = library.rd_kafka_mock_cluster_new(handle, len(BROKERS))
print(library.rd_kafka_mock_cluster_bootstraps(cluster).decode(), flush=True)

for line in sys.stdin:
    order, *words = line.split()
    for broker in BROKERS:
        if order == "down":
            library.rd_kafka_mock_broker_set_down(cluster, broker)
        elif order == "up":
            library.rd_kafka_mock_broker_set_up(cluster, broker)
    if order == "fail":
        errors = (ctypes.c_int * int(words[1]))(*[int(words[0])] * int(words[1]))
        library.rd_kafka_mock_push_request_errors_array(cluster, PRODUCE, len(errors), errors)
    print("ok", flush=True)
