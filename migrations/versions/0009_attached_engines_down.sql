drop table engine_keys;
alter table replicas drop column needs_key;
alter table replicas drop column max_num_seqs;
