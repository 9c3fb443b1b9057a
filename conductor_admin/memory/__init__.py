"""Memory: figures of worker sets, what the machine has, and the policy of who may hold it."""
