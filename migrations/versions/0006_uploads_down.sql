drop table upload_parts;
drop table uploads;

delete from files where purpose in ('assistants', 'vision', 'user_data', 'evals');
alter table files drop constraint ck_files_purpose_known;
alter table files add constraint ck_files_purpose_known
    check (purpose in ('batch', 'fine-tune', 'batch_output', 'fine-tune-results'));
