"""From what a person wrote (a YAML file, a target on the command line, `--set`) to plans that are known to work."""
