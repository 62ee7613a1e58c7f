"""Seeded grammars that make part of the pocket training sets."""
