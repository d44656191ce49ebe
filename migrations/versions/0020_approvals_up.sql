-- Two persons for what becomes final. The application says who acts; that they are two, that both saw what stands there
-- now, and that nobody holds the tenant, is decided here, where no role of ours can go around it.

-- 1. Who has to be two -------------------------------------------------------------------------------------------------

alter table legal_entities
    add column four_eyes_from numeric(18, 2) not null default 0
        constraint ck_legal_entities_four_eyes_from_not_negative check (four_eyes_from >= 0),
    add column four_eyes_by text not null default 'anyone'
        constraint ck_legal_entities_four_eyes_by_known check (four_eyes_by in ('anyone', 'people')),
    add column four_eyes_credit_from numeric(18, 2) not null default 10000
        constraint ck_legal_entities_four_eyes_credit_from_not_negative check (four_eyes_credit_from >= 0);

-- The identity in the name of an actor. The mail address behind it is for people to read, and may change.
create function person_of(actor text) returns text language sql immutable parallel safe as $$
    select case when actor like 'oidc:%' then regexp_replace(actor, ' \(.*$', '') else actor end
$$;

-- An amount in another currency than the entity's threshold is not compared with it: it always needs two.
create function needs_four_eyes(entity text, amount_currency text, amount numeric) returns boolean
language sql stable set search_path = public, pg_temp as $$
    select e.currency <> amount_currency or amount >= e.four_eyes_from from legal_entities e where e.id = entity
$$;

create function counts_as_person(entity text, actor text) returns boolean
language sql stable set search_path = public, pg_temp as $$
    select e.four_eyes_by = 'anyone' or actor like 'oidc:%' from legal_entities e where e.id = entity
$$;

-- 2. What they saw -----------------------------------------------------------------------------------------------------

-- Everything that a draft says in money, names and days: another line with the same total is another draft.
create function invoice_content_sha256(i invoices) returns text
language sql stable set search_path = public, pg_temp as $$
    select encode(sha256(convert_to(jsonb_build_array(
        i.id, i.tenant_id, i.legal_entity_id, i.period_from, i.period_until, i.time_zone, i.currency, i.rounding_mode,
        i.tax_category, i.tax_rate, i.tax_details, i.net, i.tax, i.gross, i.payment_days, i.seller, i.buyer,
        (select jsonb_agg(jsonb_build_array(l.line_no, l.variant_id, l.unit, l.price_id, l.basis, l.tokens, l.per_million,
                                            l.exact, l.amount, l.explanation) order by l.line_no)
         from invoice_lines l where l.invoice_id = i.id))::text, 'UTF8')), 'hex')
$$;

create function correction_content_sha256(c corrections) returns text
language sql stable set search_path = public, pg_temp as $$
    select encode(sha256(convert_to(jsonb_build_array(
        c.id, c.invoice_id, c.type, c.currency, c.tax_category, c.tax_rate, c.net, c.tax, c.gross, c.reason,
        (select jsonb_agg(jsonb_build_array(l.line_no, l.exact, l.amount) order by l.line_no)
         from correction_lines l where l.correction_id = c.id))::text, 'UTF8')), 'hex')
$$;

create table reviews (
    id uuid primary key default uuidv7(),
    invoice_id uuid not null constraint fk_reviews_invoice_id_invoices references invoices,
    correction_id uuid constraint fk_reviews_correction_id_corrections references corrections,
    gross numeric(18, 2) not null,
    content_sha256 text not null,
    reviewed_by text not null,
    reviewed_at timestamptz not null default now(),
    constraint uq_reviews_id_reviewed_by unique (id, reviewed_by)
);
create index ix_reviews_invoice_id on reviews (invoice_id);

create table invoice_holds (
    id uuid primary key default uuidv7(),
    tenant_id uuid not null constraint fk_invoice_holds_tenant_id_tenants references tenants,
    reason text not null,
    held_by text not null,
    held_at timestamptz not null default now(),
    reconciliation_id uuid constraint fk_invoice_holds_reconciliation_id_reconciliations references reconciliations,
    released_by text,
    released_at timestamptz,
    release_reason text,
    constraint uq_invoice_holds_tenant_id_reconciliation_id unique (tenant_id, reconciliation_id),
    constraint ck_invoice_holds_released_with_reason check (
        (released_by is null) = (released_at is null) and (released_by is null) = (release_reason is null))
);

create index ix_reconciliations_kind_subject on reconciliations (kind, subject);

alter table approvals
    add column content_sha256 text,
    add column review_id uuid,
    add column reviewed_by text,
    add constraint fk_approvals_review_id_reviews foreign key (review_id, reviewed_by) references reviews (id, reviewed_by),
    add constraint ck_approvals_two_persons check (person_of(reviewed_by) <> person_of(approved_by)),
    add constraint ck_approvals_review_named check ((review_id is null) = (reviewed_by is null));

-- As owner of the tables: whoever reviews may not change drafts, and so cannot lock them either.
create function stamp_review() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    draft_state text;
    draft_gross numeric;
begin
    if new.correction_id is not null then
        select c.state, c.gross, c.invoice_id, correction_content_sha256(c)
        into draft_state, draft_gross, new.invoice_id, new.content_sha256
        from corrections c where c.id = new.correction_id for share;
    else
        select i.state, i.gross, invoice_content_sha256(i) into draft_state, draft_gross, new.content_sha256
        from invoices i where i.id = new.invoice_id for share;
    end if;
    if draft_state is distinct from 'draft' or draft_gross <> new.gross then
        raise exception 'only a draft is reviewed, at the total that it has' using errcode = 'check_violation';
    end if;
    return new;
end $$;
create trigger stamped before insert on reviews for each row execute function stamp_review();

create function require_second_person() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    entity text;
    draft_currency text;
    draft_gross numeric;
begin
    if new.correction_id is not null then
        select c.legal_entity_id, c.currency, c.gross, c.invoice_id, correction_content_sha256(c)
        into entity, draft_currency, draft_gross, new.invoice_id, new.content_sha256
        from corrections c where c.id = new.correction_id for share;
    else
        select i.legal_entity_id, i.currency, i.gross, invoice_content_sha256(i)
        into entity, draft_currency, draft_gross, new.content_sha256
        from invoices i where i.id = new.invoice_id for share;
    end if;
    new.executed_at := null;
    new.review_id := null;
    new.reviewed_by := null;
    select r.id, r.reviewed_by into new.review_id, new.reviewed_by
    from reviews r
    where r.invoice_id = new.invoice_id and r.correction_id is not distinct from new.correction_id
      and r.content_sha256 = new.content_sha256 and person_of(r.reviewed_by) <> person_of(new.approved_by)
      and counts_as_person(entity, r.reviewed_by)
    order by r.reviewed_at, r.id limit 1;
    if needs_four_eyes(entity, draft_currency, draft_gross)
       and (new.review_id is null or not counts_as_person(entity, new.approved_by)) then
        raise exception 'a second person must have reviewed what is approved' using errcode = 'check_violation';
    end if;
    return new;
end $$;
create trigger two_persons before insert on approvals for each row execute function require_second_person();

-- 3. What becomes final ------------------------------------------------------------------------------------------------

create function require_approval() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    given approvals;
    content text;
begin
    if tg_op = 'INSERT' then
        if new.state <> 'draft' then
            raise exception '% begin as drafts', tg_table_name using errcode = 'restrict_violation';
        end if;
        return new;
    end if;
    if old.state = 'void' then
        raise exception 'the draft % is void: it stays as it is', old.id using errcode = 'restrict_violation';
    end if;
    if new.state <> 'final' or old.state = 'final' then
        return new;
    end if;
    if tg_table_name = 'corrections' then
        select a.* into given from approvals a
        where a.id = new.approval_id and a.action = 'correct' and a.correction_id = new.id;
        content := correction_content_sha256(new);
    else
        select a.* into given from approvals a
        where a.id = new.approval_id and a.action = 'finalize' and a.invoice_id = new.id;
        content := invoice_content_sha256(new);
    end if;
    if given.id is null or given.content_sha256 is distinct from content
       or given.expected_gross <> new.gross then
        raise exception '% has no approval of what it says now', new.id using errcode = 'restrict_violation';
    end if;
    if given.review_id is null and needs_four_eyes(new.legal_entity_id, new.currency, new.gross) then
        raise exception '% was approved by one person alone', new.id using errcode = 'restrict_violation';
    end if;
    if exists (select from invoice_holds h where h.tenant_id = new.tenant_id and h.released_at is null) then
        raise exception 'the invoices of tenant % are held', new.tenant_id using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger approved before insert or update on invoices for each row execute function require_approval();
create trigger approved before insert or update on corrections for each row execute function require_approval();

-- Dropping a draft is not a right to change drafts: its usage is free for another one, and it never has a number.
alter table invoices drop constraint ck_invoices_state_known;
alter table invoices add constraint ck_invoices_state_known check (state in ('draft', 'final', 'void'));
alter table invoices add constraint ck_invoices_only_final_has_number check (number is null or state = 'final');
create function void_draft(draft uuid) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform 1 from invoices i where i.id = draft and i.state = 'draft' for update;
    if not found then
        return false;
    end if;
    delete from invoiced_lines l where l.invoice_id = draft;
    update invoices set state = 'void' where id = draft;
    return true;
end $$;

-- 4. Credit: a large lot is asked for by one person and granted by another -------------------------------------------

create table credit_requests (
    id uuid primary key default uuidv7(),
    tenant_id uuid not null constraint fk_credit_requests_tenant_id_tenants references tenants,
    kind text not null constraint ck_credit_requests_kind_known check (kind in ('prepaid', 'promotion')),
    amount numeric(18, 2) not null constraint ck_credit_requests_positive check (amount > 0),
    expires_on date,
    reason text not null,
    requested_by text not null,
    requested_at timestamptz not null default now(),
    approved_by text,
    approved_at timestamptz,
    constraint ck_credit_requests_two_persons check (person_of(requested_by) <> person_of(approved_by)),
    constraint ck_credit_requests_approved_whole check ((approved_by is null) = (approved_at is null))
);
create index ix_credit_requests_tenant_id on credit_requests (tenant_id);

alter table credit_lots
    add column request_id uuid constraint fk_credit_lots_request_id_credit_requests references credit_requests,
    add constraint uq_credit_lots_request_id unique (request_id);

create function require_two_for_credit() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if new.request_id is null then
        -- Money that the bank or a payment provider has told of is nobody's gift.
        if exists (select from legal_entities e where e.id = new.legal_entity_id
                   and (new.amount >= e.four_eyes_credit_from or e.currency <> new.currency))
           and not exists (
               select from payment_matches m join payments p on p.id = m.payment_id
               where m.lot_id = new.id and m.target = 'credit' and m.amount >= new.amount and p.source <> 'manual') then
            raise exception 'a lot of % % is granted by two persons', new.amount, new.currency
                using errcode = 'check_violation';
        end if;
    elsif not exists (
        select from credit_requests r
        where r.id = new.request_id and r.approved_by = new.granted_by and r.tenant_id = new.tenant_id
          and r.kind = new.kind and r.amount = new.amount and r.expires_on is not distinct from new.expires_on
          and counts_as_person(new.legal_entity_id, r.requested_by)
          and counts_as_person(new.legal_entity_id, r.approved_by)) then
        raise exception 'the request % was not approved like this', new.request_id using errcode = 'check_violation';
    end if;
    return new;
end $$;
-- At the end of the transaction: a lot is made before the match that pays for it.
create constraint trigger two_persons after insert on credit_lots deferrable initially deferred
    for each row execute function require_two_for_credit();

-- A request is answered once, and a hold released once; nothing else of them ever changes.
create function refuse_change_but_answer() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    answer text[] := string_to_array(tg_argv[0], ',');
begin
    if tg_op = 'DELETE' or (to_jsonb(new) - answer) <> (to_jsonb(old) - answer) or to_jsonb(old) ->> answer[1] is not null
    then
        raise exception '% is answered once and never changed: % refused', tg_table_name, lower(tg_op)
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger answered_once before update or delete on credit_requests
    for each row execute function refuse_change_but_answer('approved_by,approved_at');
create trigger answered_once before update or delete on invoice_holds
    for each row execute function refuse_change_but_answer('released_by,released_at,release_reason');
create trigger append_only before update or delete on reviews for each row execute function refuse_change();

do $$
declare
    guarded text;
begin
    foreach guarded in array array['reviews', 'invoice_holds', 'credit_requests'] loop
        execute format('create trigger no_truncate before truncate on %I for each statement
                        execute function refuse_change()', guarded);
        execute format('alter table %I enable row level security, force row level security', guarded);
        execute format('create policy all_tenants on %I
                        to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true)', guarded);
    end loop;
end $$;

revoke execute on function stamp_review(), require_second_person(), require_approval(), require_two_for_credit(),
    void_draft(uuid) from public;
grant execute on function void_draft(uuid) to studio_operator;
grant select on reviews, invoice_holds, credit_requests to studio_operator, studio_worker, studio_auditor;
grant insert on reviews, invoice_holds, credit_requests to studio_operator;
grant insert on invoice_holds to studio_worker;
grant update (released_by, released_at, release_reason) on invoice_holds to studio_operator;
grant update (approved_by, approved_at) on credit_requests to studio_operator;

-- 5. Alerts of budgets, and webhooks that carry them -----------------------------------------------------------------

alter table budgets add column alert_percents integer[] not null default '{80,100}'
    constraint ck_budgets_alert_percents_sensible check (
        cardinality(alert_percents) <= 10 and 0 < all (alert_percents) and 200 >= all (alert_percents));

-- The unique key is the claim: however many look at once, one of them raises the alert.
create table alerts (
    id uuid primary key default uuidv7(),
    tenant_id uuid not null constraint fk_alerts_tenant_id_tenants references tenants,
    budget_id uuid not null constraint fk_alerts_budget_id_budgets references budgets,
    period date not null,
    percent integer not null,
    amount numeric(18, 6) not null,
    used numeric(38, 12) not null,
    raised_at timestamptz not null default now(),
    constraint uq_alerts_budget_id_period_percent_amount unique (budget_id, period, percent, amount)
);
create index ix_alerts_tenant_id on alerts (tenant_id);
create trigger append_only before update or delete on alerts for each row execute function refuse_change();

create table webhooks (
    id uuid primary key default uuidv7(),
    tenant_id uuid not null constraint fk_webhooks_tenant_id_tenants references tenants,
    url text not null,
    secret bytea not null,
    previous_secret bytea,
    previous_until timestamptz,
    created_by text not null,
    created_at timestamptz not null default now(),
    deleted_at timestamptz,
    constraint uq_webhooks_id_tenant_id unique (id, tenant_id)
);
create index ix_webhooks_tenant_id on webhooks (tenant_id);

create table webhook_messages (
    id uuid primary key default uuidv7(),
    tenant_id uuid not null constraint fk_webhook_messages_tenant_id_tenants references tenants,
    webhook_id uuid not null,
    type text not null,
    body text not null,
    created_at timestamptz not null default now(),
    attempts integer not null default 0,
    next_attempt_at timestamptz default now(),
    delivered_at timestamptz,
    constraint fk_webhook_messages_webhook_id_tenant_id_webhooks foreign key (webhook_id, tenant_id)
        references webhooks (id, tenant_id)  -- not to another tenant's
);
create index ix_webhook_messages_tenant_id on webhook_messages (tenant_id);
create index ix_webhook_messages_next_attempt_at on webhook_messages (next_attempt_at) where next_attempt_at is not null;

create table webhook_attempts (
    message_id uuid not null constraint fk_webhook_attempts_message_id_webhook_messages references webhook_messages,
    n integer not null,
    tenant_id uuid not null constraint fk_webhook_attempts_tenant_id_tenants references tenants,
    at timestamptz not null default now(),
    status integer,
    error text,
    primary key (message_id, n)
);
create trigger append_only before update or delete on webhook_attempts for each row execute function refuse_change();

do $$
declare
    scoped text;
begin
    foreach scoped in array array['alerts', 'webhooks', 'webhook_messages', 'webhook_attempts'] loop
        execute format('alter table %I enable row level security, force row level security', scoped);
        execute format('create policy own_tenant on %I to studio_gateway
                        using (tenant_id = current_tenant()) with check (tenant_id = current_tenant())', scoped);
        execute format('create policy all_tenants on %I
                        to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true)', scoped);
    end loop;
end $$;

grant select on alerts, webhook_messages, webhook_attempts
    to studio_gateway, studio_operator, studio_worker, studio_auditor;
grant select on webhooks to studio_gateway, studio_worker;
grant select (id, tenant_id, url, created_by, created_at, deleted_at) on webhooks to studio_operator, studio_auditor;
grant insert on webhooks to studio_gateway;
grant update (deleted_at, secret, previous_secret, previous_until) on webhooks to studio_gateway;
grant insert (id, tenant_id, webhook_id, type, body) on webhook_messages to studio_gateway;
grant insert on alerts, webhook_messages, webhook_attempts to studio_worker;
grant update (attempts, next_attempt_at, delivered_at) on webhook_messages to studio_worker;
grant update (alert_percents) on budgets to studio_operator;

-- 6. Mail: rows that wait, and what became of each attempt ------------------------------------------------------------

create table mails (
    id uuid primary key default uuidv7(),
    kind text not null constraint ck_mails_kind_known check (kind in ('invoice', 'correction', 'alert', 'dunning')),
    key text not null constraint uq_mails_key unique,
    tenant_id uuid not null constraint fk_mails_tenant_id_tenants references tenants,
    recipient text not null,
    subject text not null,
    body text not null,
    attachment_key text,
    attachment_name text,
    attachment_sha256 text,
    created_at timestamptz not null default now(),
    constraint ck_mails_attachment_whole check (
        (attachment_key is null) = (attachment_name is null) and (attachment_key is null) = (attachment_sha256 is null))
);
create index ix_mails_tenant_id on mails (tenant_id);

-- An attempt is written before the server is spoken to. One without an outcome may have been a mail: it is never repeated.
create table mail_attempts (
    mail_id uuid not null constraint fk_mail_attempts_mail_id_mails references mails,
    n integer not null,
    began_at timestamptz not null,
    outcome text constraint ck_mail_attempts_outcome_known check (outcome in ('sent', 'deferred', 'refused', 'uncertain')),
    answer text,
    primary key (mail_id, n)
);
create trigger append_only before update or delete on mails for each row execute function refuse_change();
create trigger answered_once before update or delete on mail_attempts
    for each row execute function refuse_change_but_answer('outcome,answer');

do $$
declare
    scoped text;
begin
    foreach scoped in array array['mails', 'mail_attempts'] loop
        execute format('alter table %I enable row level security, force row level security', scoped);
        execute format('create policy all_tenants on %I
                        to studio_owner, studio_operator, studio_worker, studio_auditor using (true) with check (true)', scoped);
    end loop;
end $$;
grant select on mails, mail_attempts to studio_operator, studio_worker, studio_auditor;
grant insert on mails, mail_attempts to studio_worker;
grant update (outcome, answer) on mail_attempts to studio_worker;

-- 7. The billing canary: a tenant of ours, with terms so that it can be rated, and keys for an hour -------------------

create function open_billing_canary(key_id uuid, key_prefix text, key_hash bytea) returns uuid
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    found uuid;
begin
    -- Asked first: even an insert of nothing would tell every gateway to read all tenants again.
    if not exists (select 1 from tenants where slug = 'billing-canary') then
        insert into tenants (slug, name, is_internal) values ('billing-canary', 'Canary of billing', true)
        on conflict (slug) do nothing;
    end if;
    select t.id into found from tenants t where t.slug = 'billing-canary' and t.is_internal and t.closed_at is null;
    if found is null then
        raise exception 'the tenant billing-canary is not ours: give it another name' using errcode = 'unique_violation';
    end if;
    if not exists (select 1 from tenant_billing b where b.tenant_id = found) then
        insert into tenant_billing (tenant_id, valid_from, legal_entity_id, currency, time_zone, tax_category, buyer)
        select found, current_date - 1, e.id, 'EUR', e.time_zone, 'S', '{}' from legal_entities e
        where e.currency = 'EUR' order by e.id limit 1
        on conflict do nothing;
    end if;
    insert into api_keys (id, tenant_id, name, prefix, secret_hash, scopes, expires_at)
    values (key_id, found, 'billing canary', key_prefix, key_hash, '{inference}', now() + interval '1 hour');
    insert into audit_log (actor, action, subject, tenant_id, details)
    values ('billing canary', 'key.create', key_prefix, found, '{}');
    return found;
end $$;

create function close_billing_canary() returns bigint
language sql security definer set search_path = public, pg_temp as $$
    with ended as (
        update api_keys k set revoked_at = now()
        from tenants t
        where t.id = k.tenant_id and t.is_internal and k.revoked_at is null and t.slug = 'billing-canary'
        returning k.prefix, k.tenant_id
    ), noted as (
        insert into audit_log (actor, action, subject, tenant_id, details)
        select 'billing canary', 'key.revoke', prefix, tenant_id, '{}' from ended
        returning 1
    )
    select count(*) from noted
$$;
revoke execute on function open_billing_canary(uuid, text, bytea), close_billing_canary() from public;
grant execute on function open_billing_canary(uuid, text, bytea), close_billing_canary() to studio_worker;
