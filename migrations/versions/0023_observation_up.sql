-- What operators look back on. Nothing here is billed: figures are computed anew from what is.

-- When Dagster's daemon last got a sensor of ours to run: one row.
create table dagster_ticks (
    singleton boolean not null default true,
    ticked_at timestamptz not null,
    constraint pk_dagster_ticks primary key (singleton),
    constraint ck_dagster_ticks_one_row check (singleton)
);

-- What a site pays. A rate that nobody has measured is null, never 0.
create table cost_rates (
    valid_from timestamptz not null,
    eur_per_kwh numeric(18, 6),
    eur_per_card_hour numeric(18, 6),
    source text not null,
    constraint pk_cost_rates primary key (valid_from),
    constraint ck_cost_rates_energy_not_negative check (eur_per_kwh >= 0),
    constraint ck_cost_rates_card_not_negative check (eur_per_card_hour >= 0)
);

-- Joules of one card in one hour, for whoever held it then (variant_id null: nobody). Null: not measured.
create table card_energy (
    id uuid not null default uuidv7(),
    hour timestamptz not null,
    card text not null,
    host text not null,
    variant_id text,
    joules numeric(18, 3),
    unmeasured_seconds numeric(10, 3),
    recorded_at timestamptz not null default now(),
    constraint pk_card_energy primary key (id),
    constraint fk_card_energy_variant_id foreign key (variant_id) references model_variants (id),
    constraint ck_card_energy_whole_hour check (hour = date_trunc('hour', hour)),
    constraint ck_card_energy_joules_not_negative check (joules >= 0),
    constraint ck_card_energy_unmeasured_not_negative check (unmeasured_seconds >= 0)
);
create unique index uq_card_energy on card_energy (hour, card, variant_id) nulls not distinct;

-- One Berlin day of a variant that is sold and a tenant that used it (null: nobody did): what it brought and cost.
create table margin_daily (
    id uuid not null default uuidv7(),
    day date not null,
    tenant_id uuid,
    variant_id text not null,
    running_variant_id text not null,
    currency text not null,
    busy_seconds numeric(18, 3) not null,
    share numeric(12, 10) not null,
    card_seconds numeric(18, 3) not null,
    kwh numeric(18, 6),
    energy_cost numeric(38, 12),
    card_cost numeric(38, 12),
    cost numeric(38, 12),
    revenue numeric(38, 12) not null,
    margin numeric(38, 12),
    computed_at timestamptz not null default now(),
    constraint pk_margin_daily primary key (id),
    constraint fk_margin_daily_tenant_id foreign key (tenant_id) references tenants (id),
    constraint fk_margin_daily_variant_id foreign key (variant_id) references model_variants (id),
    constraint fk_margin_daily_running_variant_id foreign key (running_variant_id) references model_variants (id),
    constraint ck_margin_daily_currency_known check (currency in ('EUR', 'CNY')),
    constraint ck_margin_daily_cost_is_whole check (cost = energy_cost + card_cost),
    constraint ck_margin_daily_margin_is_what_is_left check (margin = revenue - cost)
);
create unique index uq_margin_daily on margin_daily (day, tenant_id, variant_id, currency) nulls not distinct;

-- One figure of a month's report. `value` null: nothing was there to measure; `target` null: none was promised.
create table slo_figures (
    month date not null,
    objective text not null,
    subject text not null,
    value numeric(18, 6),
    target numeric(18, 6),
    is_met boolean,
    samples bigint not null,
    details jsonb not null default '{}',
    computed_at timestamptz not null default now(),
    constraint pk_slo_figures primary key (month, objective, subject),
    constraint ck_slo_figures_month_is_its_first_day check (month = date_trunc('month', month)::date),
    constraint ck_slo_figures_samples_not_negative check (samples >= 0),
    constraint ck_slo_figures_met_only_when_measured check (is_met is null or (value is not null and target is not null))
);

alter table margin_daily enable row level security, force row level security;
create policy all_tenants on margin_daily
    to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true);

grant select on dagster_ticks, cost_rates, card_energy, margin_daily, slo_figures
    to studio_operator, studio_worker, studio_auditor;
grant insert, update, delete on dagster_ticks, cost_rates, card_energy, margin_daily, slo_figures to studio_worker;
