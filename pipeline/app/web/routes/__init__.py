"""One subject a file. Each has `router(site)`, which `app.py` puts together."""
