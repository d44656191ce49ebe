"""Rating a day the obvious way, for comparison: all of it into pandas, joined with prices, grouped.

Stands alone, so that it runs in the environment of the peers: `python rate_with_pandas.py FOLDER BOOK`."""

import pickle
import sys

import numpy as np
import pandas as pd


def main(folder: str, book_file: str) -> tuple[int, int, int]:
    """Lines, tokens and 10^-12 of a currency unit."""
    with open(book_file, "rb") as file:  # noqa: PTH123 (no imports that pandas does not need)
        book = pickle.load(file)  # noqa: S301 (the benchmark's own)
    events = pd.read_parquet(folder, columns=[
        "tenant_id", "seal_no", "model_id", "tier_served", "batch_id", "started_at", "prompt_tokens", "cached_tokens",
        "completion_tokens", "reused_prompt_tokens", "reused_completion_tokens",
    ])  # fmt: skip
    if isinstance(events.tenant_id.iloc[0], bytes):
        slots = [(tenant.bytes, *rest) for tenant, *rest in book["slots"]]
    else:
        slots = [(type(events.tenant_id.iloc[0])(str(tenant)), *rest) for tenant, *rest in book["slots"]]
    days = pd.DataFrame(slots, columns=["tenant_id", "billing_day", "currency", "starts", "ends"])
    # The benchmark's day has neither own prices nor missed targets, so the peer need not know of them.
    variants = pd.DataFrame(
        [row[:4] for row in book["variants"]], columns=["model_id", "tier_served", "variant_id", "task"]
    )
    events = events.merge(variants, on=["model_id", "tier_served"]).merge(days, on="tenant_id")
    events = events[(events.started_at >= events.starts) & (events.started_at < events.ends)]
    prompt = events.prompt_tokens - events.reused_prompt_tokens
    is_embedding = events.task == "embedding"
    units = {
        "embedding": prompt.where(is_embedding, 0),
        "prompt": (prompt - events.cached_tokens).where(~is_embedding, 0),
        "cached_prompt": events.cached_tokens.where(~is_embedding, 0),
        "completion": events.completion_tokens - events.reused_completion_tokens,
        "reused": events.reused_prompt_tokens + events.reused_completion_tokens,
    }
    columns = ["price_id", "currency", "variant_id", "unit", "micros", "starts", "ends"]
    prices = pd.DataFrame([(price[0], *price[2:]) for price in book["prices"]], columns=columns)
    lines = tokens = pico = 0
    for unit, counted in units.items():
        of_unit = events[["tenant_id", "seal_no", "billing_day", "currency", "variant_id", "started_at"]].assign(
            unit=np.where(events.batch_id.notna(), f"batch_{unit}", unit), tokens=counted
        )
        priced = of_unit[of_unit.tokens > 0].merge(prices, on=["currency", "variant_id", "unit"])
        priced = priced[(priced.started_at >= priced.starts) & (priced.started_at < priced.ends)]
        keys = ["tenant_id", "seal_no", "variant_id", "unit", "price_id", "billing_day", "currency", "micros"]
        grouped = priced.groupby(keys, sort=False).tokens.sum().reset_index()
        lines += len(grouped)
        tokens += int(grouped.tokens.sum())
        pico += sum(int(count) * int(micros) for count, micros in zip(grouped.tokens, grouped.micros, strict=True))
    return lines, tokens, pico


if __name__ == "__main__":
    print(*main(sys.argv[1], sys.argv[2]))
    with open("/proc/self/status") as status:  # noqa: PTH123
        print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
