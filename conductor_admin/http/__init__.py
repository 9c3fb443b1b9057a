"""HTTP without routes: connections, bodies, middleware and responses."""
