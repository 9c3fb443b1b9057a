"""Sessions: kept conversations and their database."""
