"""Boxes and images as arrays: arithmetic that every other room needs."""
