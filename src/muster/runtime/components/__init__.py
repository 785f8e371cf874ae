"""Namespaces, components and endpoints, and what hangs on them."""
