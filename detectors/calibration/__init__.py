"""Proves what a cascade misses of what its heavy model flags: the tests, the certificate, the audit's statistics."""
