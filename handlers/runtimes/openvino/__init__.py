"""The openvino runtime: openvino-genai's continuous batching behind the runtime seam."""
