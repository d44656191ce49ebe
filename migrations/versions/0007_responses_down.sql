-- Back to before.

drop function forget_idempotent_answers();
drop table idempotent_answers;
