"""The reconcile loop: watch events wake a key, a worker observes, decides, applies and reports."""
