drop table comparisons;
