"""Counters: what the engine has produced since its start, in vLLM's metric names. They are the truth that usage events
are compared with, so a token counts when it is handed to the socket, whoever still reads it."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    prompt_tokens: int = 0
    cached_tokens: int = 0  # part of prompt_tokens
    generation_tokens: int = 0
    requests_running: int = 0

    def exposition(self, model: str) -> bytes:
        """Prometheus text, with vLLM's labels."""
        labels = f'{{engine="0",model_name="{model}"}}'
        figures = (
            ("num_requests_running", "gauge", "Number of requests in model execution batches.", self.requests_running),
            ("num_requests_waiting", "gauge", "Number of requests waiting to be processed.", 0),
            ("prompt_tokens_total", "counter", "Number of prefill tokens processed.", self.prompt_tokens),
            ("prompt_tokens_cached_total", "counter", "Number of cached prompt tokens.", self.cached_tokens),
            ("prefix_cache_queries_total", "counter", "Prefix cache queries, in tokens.", self.prompt_tokens),
            ("prefix_cache_hits_total", "counter", "Prefix cache hits, in tokens.", self.cached_tokens),
            ("kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage.", 0),
            ("generation_tokens_total", "counter", "Number of generation tokens processed.", self.generation_tokens),
        )
        return "".join(
            f"# HELP vllm:{name} {meaning}\n# TYPE vllm:{name} {kind}\nvllm:{name}{labels} {float(value)}\n"
            for name, kind, meaning, value in figures
        ).encode()
