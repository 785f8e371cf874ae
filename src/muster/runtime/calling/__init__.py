"""Calling endpoints: who is there, who is asked, and what comes back."""
