"""Detections against ground truth: metrics, their uncertainty, and what went wrong."""
