-- A tenant's rows lie as they arrived, between those of everybody: each is a page of its own. In this index they lie
-- side by side, with all that `/v1/usage` adds up.

drop index ix_usage_events_tenant_id_started_at;
create index ix_usage_events_tenant_id_started_at on usage_events (tenant_id, started_at)
    include (usage_day_utc, variant_id, api_key_id, tag, endpoint, prompt_tokens, cached_tokens, completion_tokens,
             reused_prompt_tokens, reused_completion_tokens);
