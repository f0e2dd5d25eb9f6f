"""Finished runs in the browser: faces to draw and edit, transactions to move the boundary over."""
