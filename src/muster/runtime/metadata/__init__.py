"""The files a worker serves: what is registered, and how it is asked for."""
