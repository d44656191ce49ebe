-- What months of operation leave behind, in small: one row at least behind every metric of the state.
set session_replication_role = replica;

-- Open around the clock, so that there is an opening whenever this runs.
delete from holidays;
delete from opening_hours;
insert into opening_hours (calendar_id, weekday, opens, closes)
    select 'office', day, '00:00', '23:59:59.999999' from generate_series(1, 7) day;
delete from hours_overrides;
update model_variants set calendar_id = 'office' where deployed;

insert into warmups (replica_id, variant_id, started_at, weights_seconds, start_seconds, first_token_seconds, ready_at)
    select id, variant_id, now() - interval '1 minute', 1.5, 20, 0.5, now() from replicas;
insert into replicas (variant_id, kind, state, url, engine_model, stopped_at)
    values ('smollm2-135m-instruct', 'process', 'failed', '', 'stub', now());
insert into batches (tenant_id, api_key_id, endpoint, completion_window, input_file_id, variant_id, state, lines_total,
                     created_at, in_progress_at, expires_at)
    select id, uuidv7(), '/v1/chat/completions', '24h', uuidv7(), 'smollm2-135m-instruct', 'in_progress', 1000,
           now() - interval '1 hour', now(), now() + interval '23 hours'
    from tenants;
insert into reconciliations (kind, subject, expected, observed, agrees, details)
    values ('events_equal_engine_counters', 'rep_1', 10, 9, false, '{}');
insert into rated_lines (window_day, tenant_id, seal_no, variant_id, unit, price_id, billing_day, legal_entity_id, currency,
                         tokens, per_million, amount, code_version)
    select (now() at time zone 'Europe/Berlin')::date, id, 1, 'smollm2-135m-instruct', 'prompt', uuidv7(), current_date,
           'xpulink-de', 'EUR', 1000000, 2.5, 2.5, 'test'
    from tenants;
insert into ledger_accounts (id, legal_entity_id, kind, currency, tenant_id, detail)
    select '00000000-0000-0000-0000-000000000001', 'xpulink-de', 'receivable', 'EUR', id, '' from tenants;
insert into ledger_entries (transaction_id, n, account_id, legal_entity_id, currency, amount)
    values (uuidv7(), 1, '00000000-0000-0000-0000-000000000001', 'xpulink-de', 'EUR', 119);
insert into ledger_days (day, transactions, content_sha256, previous_sha256, sha256)
    values (current_date - 1, 1, 'a', 'b', 'c');
insert into margin_daily (day, tenant_id, variant_id, running_variant_id, currency, busy_seconds, share, card_seconds, kwh,
                          energy_cost, card_cost, cost, revenue, units_per_euro, margin)
    select current_date - 1, id, 'smollm2-135m-instruct', 'smollm2-135m-instruct', 'EUR', 10, 1, 86400, 1.5, 0.3, 2, 2.3, 5,
           1, 2.7
    from tenants;
-- Beside it a model that ran for nobody, and whose energy nobody measured.
insert into margin_daily (day, variant_id, running_variant_id, currency, busy_seconds, share, card_seconds, revenue, units_per_euro)
    values (current_date - 1, 'qwen3-32b-fast', 'qwen3-32b-fast', 'EUR', 0, 1, 86400, 0, 1);
insert into cost_rates (valid_from, eur_per_kwh, eur_per_card_hour, source)
    values (now() - interval '1 day', 0.24, 0.9, 'tests');
insert into slo_figures (month, objective, subject, value, target, is_met, samples)
    select month, objective, subject, value, target, is_met, 100
    from (values ('availability', 'smollm2-135m-instruct', 0.981, 0.995, false),
                 ('availability', 'all-minilm-l6-v2', null, 0.995, null),
                 ('prewarm', 'smollm2-135m-instruct', 1, null, null),
                 ('first_token_ms_p50', 'smollm2-135m-instruct', 96.4, 120, true),
                 ('usage_error', 'smollm2-135m-instruct', 0.001, 0.02, true))
             figures (objective, subject, value, target, is_met),
         cast(date_trunc('month', now()) as date) month;
insert into budgets (id, tenant_id, kind, currency, amount)
    select '00000000-0000-0000-0000-000000000002', id, 'monthly', 'EUR', 1000 from tenants;
insert into budget_accounts (budget_id, period, spent)
    values ('00000000-0000-0000-0000-000000000002', date_trunc('month', now())::date, 250);
insert into isolation_certificates (tenant_id, result, began_at, ended_at, document, signature, key_id)
    select id, 'passed', now(), now(), '{}', 'x', 'k' from tenants;
insert into dagster_ticks (ticked_at) values (now());
