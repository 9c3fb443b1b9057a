"""Sessions: conversations that the gateway keeps, and the database that holds them."""
