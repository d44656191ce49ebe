drop table cluster_contact;
drop table engine_pods;
