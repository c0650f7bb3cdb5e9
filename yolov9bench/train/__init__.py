"""Training: assignment, loss, optimisation, augmented batches and the loop."""
