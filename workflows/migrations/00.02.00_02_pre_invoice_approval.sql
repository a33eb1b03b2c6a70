-- A person may decide about an invoice: what code found is then replaced by the decision.

alter table invoice_register drop constraint invoice_register_status_check;
alter table invoice_register add constraint invoice_register_status_check
    check (status in ('proven', 'to_check', 'approved', 'rejected'));
