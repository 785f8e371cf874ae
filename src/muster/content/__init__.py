"""Bytes one can trust: kept by digest, verified, put in place whole."""
