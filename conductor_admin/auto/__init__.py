"""The choice of `auto`: rules first, then the meaning of the prompt."""
