"""Rows → pictures."""
