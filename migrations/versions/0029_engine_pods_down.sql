drop table cluster_contact;
drop table engine_starts;
drop table engine_pods;
