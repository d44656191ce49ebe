drop table usage_counts;
