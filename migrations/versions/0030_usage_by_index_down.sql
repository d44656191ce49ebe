drop index ix_usage_events_tenant_id_started_at;
create index ix_usage_events_tenant_id_started_at on usage_events (tenant_id, started_at);
