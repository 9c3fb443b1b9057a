"""The interfaces of the gateway: bodies read, generations rendered, and the OpenAPI document."""
