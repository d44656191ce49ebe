-- What our driver in a cluster sees of engines' pods, where the gateway can read it.
create table engine_pods (
    variant_id text not null,
    outcome text not null,
    trouble text,
    said text not null,
    trouble_since timestamptz,
    unready_since timestamptz,
    changed_at timestamptz not null,
    constraint pk_engine_pods primary key (variant_id),
    constraint fk_engine_pods_variant_id foreign key (variant_id) references model_variants (id),
    constraint ck_engine_pods_outcome_known check (
        outcome in ('in order', 'scaled', 'busy', 'starting', 'stuck', 'conflict', 'failed')),
    constraint ck_engine_pods_trouble_known check (
        trouble in ('image', 'configuration', 'weights', 'engine', 'room', 'quota', 'refused', 'deadline', 'drivers',
                    'scale'))
);
create table engine_starts (
    variant_id text not null,
    started_at timestamptz not null,
    ready_at timestamptz not null,
    constraint pk_engine_starts primary key (variant_id, started_at),
    constraint fk_engine_starts_variant_id foreign key (variant_id) references model_variants (id),
    constraint ck_engine_starts_ready_after_start check (ready_at >= started_at)
);
create table cluster_contact (
    id smallint not null,
    away_since timestamptz,
    said text not null,
    constraint pk_cluster_contact primary key (id),
    constraint ck_cluster_contact_one_row check (id = 1)
);
create trigger notify_fleet after insert or update or delete on engine_pods
    for each statement execute function notify_channel('studio_fleet');
create trigger notify_fleet after insert or update or delete on cluster_contact
    for each statement execute function notify_channel('studio_fleet');

grant select, insert, update, delete on engine_pods to studio_worker;
grant select, insert, update on cluster_contact to studio_worker;
grant select, insert on engine_starts to studio_worker;
grant select on engine_pods, engine_starts, cluster_contact to studio_operator, studio_auditor;
grant select on engine_starts to studio_gateway;
-- Not what Kubernetes says: it names nodes, registries and paths, and every caller may ask the gateway.
grant select (variant_id, outcome, trouble, unready_since) on engine_pods to studio_gateway;
grant select (away_since) on cluster_contact to studio_gateway;
