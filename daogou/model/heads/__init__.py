"""Task layers: one family of tasks a file, each reading the encodings that it needs."""
