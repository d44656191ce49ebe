drop index ix_engine_counters_replica_id_idle;
-- A reading of a busy engine means nothing without its requests.
alter table engine_counters disable trigger append_only;
delete from engine_counters where requests > 0;
alter table engine_counters enable trigger append_only;
alter table engine_counters drop column requests;

revoke update (resolved_at) on quarantine from studio_operator;
drop index ix_quarantine_event_id;
alter table quarantine drop column decision, drop column decided_by, drop column decision_reason;

drop function drop_archived_usage(date);
drop function prove_source(uuid, bigint);
alter table usage_sources drop column proven_seq;
drop table usage_archives;
