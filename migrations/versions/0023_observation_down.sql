drop table slo_figures;
drop table margin_daily;
drop table card_energy;
drop table cost_rates;
drop table dagster_ticks;
