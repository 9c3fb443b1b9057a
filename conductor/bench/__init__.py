"""The bench: the gateway beside the inference library called directly, on one machine."""
