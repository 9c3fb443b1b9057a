"""Access: keys, callers and scopes, limits of rate, and the audit log."""
