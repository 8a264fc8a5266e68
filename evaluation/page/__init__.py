"""The page of results: its shell, style and script, its pictures, and what the templates of the wings share."""
