"""What a detector costs: arithmetic, time and memory."""
