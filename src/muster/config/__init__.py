"""Every setting once: its name, environment variable, default, unit, and where its value came from."""
