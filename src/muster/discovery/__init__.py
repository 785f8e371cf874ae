"""Who exists: records under keys, with a lease, in a registry others can watch."""
