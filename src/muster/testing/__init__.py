"""Fakes and real-server fixtures for tests of Muster and of what is built on it.

May import anything of Muster; nothing in Muster imports it.
"""
