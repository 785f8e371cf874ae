"""A model's metadata as one verified file, for places no network reaches."""
