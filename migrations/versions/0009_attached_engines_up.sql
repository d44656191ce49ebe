-- Engines that somebody else runs: the key that they ask for, sealed, and how many requests they run at once.

alter table replicas add column max_num_seqs integer;
alter table replicas add constraint ck_replicas_max_num_seqs_positive check (max_num_seqs > 0);
alter table replicas add column needs_key boolean not null default false;

-- A table of its own, so that whoever reads replicas (all roles do) does not read keys. Only the gateway does, which has
-- the secret to open them; operators write them and take them away.
create table engine_keys (
    replica_id uuid not null,
    sealed bytea not null,
    constraint pk_engine_keys primary key (replica_id),
    constraint fk_engine_keys_replica_id foreign key (replica_id) references replicas (id)
);

grant select on engine_keys to studio_gateway;
grant insert, delete, select (replica_id) on engine_keys to studio_operator;
