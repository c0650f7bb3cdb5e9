"""Files, downloads, executed notebooks and provenance."""
