"""Methods that change attention or logits while the model answers."""
