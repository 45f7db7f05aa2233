"""One module per group of commands. At the top of each stands only what is cheap to import."""
