-- Which version of its workflow's graph a run's checkpoints belong to; null until it is claimed.
alter table rotina.run add column version integer;
