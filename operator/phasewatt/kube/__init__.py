"""The only code that talks to the Kubernetes API server: a small port, its real adapter and a faithful fake."""
