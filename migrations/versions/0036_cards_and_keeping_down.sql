-- Refused, rightly, once a draft was dropped or a GPU hour metered: neither can be told without this.
drop function void_correction(uuid);
alter table corrections drop constraint ck_corrections_state_known;
alter table corrections add constraint ck_corrections_state_known check (state in ('draft', 'final'));

drop index uq_card_energy;
delete from card_energy where fine_tune_id is not null;
alter table card_energy drop column fine_tune_id;
create unique index uq_card_energy on card_energy (hour, card, variant_id) nulls not distinct;

alter table batch_shards drop column result_bytes;

drop function spend_days(uuid[]);

revoke execute on function price_at(uuid, text, text, text, timestamptz) from studio_operator;
drop table gpu_days;
drop table card_reservations;
do $$
declare
    source text := pg_get_functiondef('accept_usage(uuid)'::regprocedure);
begin
    execute replace(source, 'in (''/v1/fine_tuning/jobs'', ''storage'', ''gpu_hour'')',
                    'in (''/v1/fine_tuning/jobs'', ''storage'')');
end $$;
alter table usage_events drop constraint ck_usage_events_without_engine_all_is_reused;
alter table usage_events add constraint ck_usage_events_without_engine_all_is_reused check (
    replica_id is not null or endpoint in ('/v1/fine_tuning/jobs', 'storage')
    or (reused_prompt_tokens = prompt_tokens and reused_completion_tokens = completion_tokens));
alter table prices drop constraint ck_prices_gpu_hours_are_of_gpu;
alter table prices drop constraint ck_prices_unit_known;
alter table prices add constraint ck_prices_unit_known check (
    unit in ('prompt', 'cached_prompt', 'completion', 'embedding', 'batch_prompt', 'batch_cached_prompt',
            'batch_completion', 'batch_embedding', 'reused', 'training', 'storage'));
alter table models drop constraint ck_models_task_known;
alter table models add constraint ck_models_task_known check (task in ('chat', 'completion', 'embedding', 'storage'));
