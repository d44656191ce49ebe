-- An engine may be up and hang: our driver asks it for a token.
alter table engine_pods drop constraint ck_engine_pods_trouble_known;
alter table engine_pods add constraint ck_engine_pods_trouble_known check (
    trouble in ('image', 'configuration', 'weights', 'engine', 'silent', 'room', 'quota', 'refused', 'deadline',
                'drivers', 'scale'));
