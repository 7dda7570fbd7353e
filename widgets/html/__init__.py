"""Rows → HTML."""
