insert into "contact"."snapshot" ("contactid", "firstname", "modifiedon", "_generation", "_page")
select "contactid", "firstname", timezone('UTC', cast("modifiedon" as timestamptz)), $generation, $page from page;
