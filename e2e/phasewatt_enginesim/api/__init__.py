"""The HTTP front end: OpenAI's completions and chat as vLLM serves them, health, metrics, and fault injection."""
