alter table engine_pods drop constraint ck_engine_pods_trouble_known;
update engine_pods set trouble = 'engine' where trouble = 'silent';
alter table engine_pods add constraint ck_engine_pods_trouble_known check (
    trouble in ('image', 'configuration', 'weights', 'engine', 'room', 'quota', 'refused', 'deadline', 'drivers',
                'scale'));
