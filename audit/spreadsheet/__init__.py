"""Somebody else's back-propagation spreadsheet: read, checked cell by cell, and marked."""
