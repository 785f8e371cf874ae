"""Which models to serve, from which instances, and why the others are not: decisions, no I/O."""
