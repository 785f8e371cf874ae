"""Models as cards: written by workers, fetched, verified and decided on by frontends."""
