"""The engine proper: requests, KV pool, scheduler, and the loop that spends simulated time."""
