"""The thresholds: pure functions from findings to a decision, one kind of rule a file."""
