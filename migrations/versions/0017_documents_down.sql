-- Snapshots, verdicts and evidence are lost; documents of other kinds than PDF are forgotten, their objects stay.

delete from invoice_documents where kind <> 'pdf';
delete from correction_documents where kind <> 'pdf';
alter table invoice_documents drop constraint ck_invoice_documents_kind_known;
alter table invoice_documents add constraint ck_invoice_documents_kind_known check (kind in ('pdf'));
alter table correction_documents drop constraint ck_correction_documents_kind_known;
alter table correction_documents add constraint ck_correction_documents_kind_known check (kind in ('pdf'));
update tenant_billing set tax_category = 'S' where tax_category is null;
alter table tenant_billing alter column tax_category set not null;
alter table invoices drop column tax_details;
drop table vat_id_checks;
drop table fx_rates;
drop table tax_treatments;
drop table document_verdicts;
drop table document_snapshots;
