"""Metrics at every level of the component model, merged into one page."""
