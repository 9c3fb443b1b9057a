"""The choice behind `model: auto`: rules first, then the meaning of the prompt."""
