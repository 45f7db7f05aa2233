"""What a person touches: the command line, config files, wiring, metrics, benches, the demo."""
