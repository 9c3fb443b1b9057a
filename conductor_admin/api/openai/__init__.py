"""The routes of `/v1`, in the shapes of OpenAI's API."""
