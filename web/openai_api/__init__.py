"""The endpoint for clients of OpenAI's API: chat completions, responses, models."""
