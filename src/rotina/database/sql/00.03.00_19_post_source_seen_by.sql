-- No process is left that says which run has seen a document.

alter table rotina.source_item drop column seen_by, alter column seen_at drop default;
