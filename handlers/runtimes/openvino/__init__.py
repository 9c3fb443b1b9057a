"""The openvino runtime: openvino-genai's continuous batching."""
