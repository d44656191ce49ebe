drop function summed_days(date, date);
drop table usage_summed_days;
drop table usage_sums;
